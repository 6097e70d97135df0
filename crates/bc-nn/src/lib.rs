//! ByteCover's network and the operators it is made of.
