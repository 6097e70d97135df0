//! The commands of README.md and docs: the tutorial's print what the page says ([`tutorial`]), those of README and of
//! the how-to pages end well ([`how_to`]), all others exist with their options ([`options`]). Links lead somewhere and
//! the book has every page ([`links`]).
//!
//! A `console` block of a page holds commands, each after `$ `, and below each what it prints on standard output. There a line `…`
//! means any lines, `…` within a line any text, and decimal numbers agree within 0.05 (the last digits depend
//! on the machine's instruction set). A block ```` ```sh ```` holds commands alone.

mod how_to;
mod links;
mod options;
mod pages;
mod printed;
mod shell;
mod tutorial;
