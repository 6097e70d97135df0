//! Finds matched sections: a path is traced back and cut where it jumps, the ends of its best piece are set cell by cell, and the
//! search repeats on the rest of both recordings.

use super::settings::{COSTS, Section, Settings};
use crate::chroma::{Chroma, PITCH_CLASSES};
use crate::qmax::{self, Plot};

/// A path is cut where it has no hits for this many seconds.
const MAX_GAP_S: f64 = 8.0;
/// A path is also cut where it changes its diagonal by more cells than this without a hit.
const MAX_JUMP: usize = 3;
/// A section extends at most this many seconds beyond the piece of a path from which it was found.
const MAX_EXTENSION_S: f64 = 12.0;
/// A section's tempo differs at most by this factor from that of the grids.
const MAX_SLOPE: f64 = 1.1;
/// Number of paths that are traced for each section that may be found. Most pieces that turn out not to be sections are short.
const PATHS_PER_SECTION: usize = 4;
/// Minimum value of a later path as a share of the first path's value.
const MIN_SHARE: f32 = 0.25;

/// A cell next to a piece belongs to the section if its similarity is above this share of the way from that of unrelated cells to
/// that of the piece's cells.
const END_SHARE: f32 = 0.45;
/// Minimum likeness ([`Ends::likeness`]) of a later section as a share of the greatest one. Without it, unrelated songs match:
/// two songs in one key can share half a minute of chords by chance.
const MIN_LIKENESS: f32 = 0.75;

/// The sections found on two grids.
#[derive(Default)]
pub struct FoundSections {
    /// The sections, in order of the first recording.
    pub sections: Vec<Section>,
    /// The path: pairs of times in seconds (first recording, second recording).
    pub path: Vec<(f64, f64)>,
    /// Cells of the second recording per cell of the first, over all sections; 1 where there are none.
    pub slope: f64,
    /// Value of the longest path.
    pub longest: f32,
    /// How well all sections together fit straight lines at the tempo ratio of the candidate.
    pub straightness: f32,
}

/// A cell of the plot on a path.
#[derive(Clone, Copy)]
struct PathCell {
    row: usize,
    column: usize,
    /// Whether the cell is set in the plot.
    hit: bool,
}

/// A piece of a path.
type Piece = Vec<PathCell>;

/// Finds all sections of `b`, which must be in the key and nearly at the tempo of `a`.
pub fn all(a: &Chroma, b: &Chroma, settings: &Settings) -> FoundSections {
    let mut found = FoundSections::default();
    let Some(mut plot) = Plot::new(&a.columns, &b.columns, settings.depth, settings.kappa) else {
        return found;
    };
    let mut grids = Grids::new(a, b, settings.depth);
    let min_path = (settings.min_section_s / a.column_s - settings.depth as f64 + 1.0).max(3.0) as f32;
    let (mut slopes, mut best_likeness) = (Slopes::default(), 0f32);
    for _ in 0..PATHS_PER_SECTION * settings.max_sections {
        let scores = qmax::matrix(&plot, &COSTS);
        let Some((end, value)) = greatest(&scores) else { break };
        found.longest = found.longest.max(value);
        let full = found.sections.len() == settings.max_sections;
        if full || value < min_path.max(MIN_SHARE * found.longest) {
            break;
        }
        let path = trace_back(&plot, &scores, (end / plot.columns, end % plot.columns));
        // One piece at a time: the other pieces of this path may belong to a better path.
        let Some(piece) = best_piece(&path, (MAX_GAP_S / a.column_s) as usize) else { break };
        clear(&mut plot, &piece);
        let Some((ends, line)) = Line::through(&piece).and_then(|line| grids.best_line(&piece, &line)) else {
            continue;
        };
        let long = (ends.to - ends.from) as f64 * a.column_s >= settings.min_section_s;
        if long && ends.likeness >= MIN_LIKENESS * best_likeness {
            best_likeness = best_likeness.max(ends.likeness);
            slopes.add(&ends, &line);
            let straight = grids.ends(&piece, &Line { slope: 1.0, ..line });
            found.straightness += straight.map_or(0.0, |ends| ends.similarity);
            found.sections.push(grids.section(&ends, &line));
            found.path.extend(grids.times(&piece, &ends));
            grids.take(&ends, &line);
        }
    }
    found.sections.sort_by(|a, b| a.start_a.total_cmp(&b.start_a));
    cut_overlaps(&mut found.sections);
    found.path.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    found.slope = slopes.common();
    found
}

/// Returns position and value of the greatest score; `None` if all are 0.
fn greatest(scores: &[f32]) -> Option<(usize, f32)> {
    let best = scores.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (best.1 > 0.0).then_some(best)
}

/// Returns the path that ends in the cell `end`, beginning with its first hit.
fn trace_back(plot: &Plot, scores: &[f32], end: (usize, usize)) -> Piece {
    let index = |row: usize, column: usize| row * plot.columns + column;
    let (mut row, mut column) = end;
    let mut path = Vec::new();
    loop {
        let hit = plot.hits[index(row, column)] > 0.0;
        path.push(PathCell { row, column, hit });
        if row < 2 || column < 2 {
            break;
        }
        let value = |((down, right), cost): ((usize, usize), f32)| {
            let from = index(row - down, column - right);
            scores[from] - cost - if hit { 0.0 } else { COSTS.gap(plot.hits[from]) }
        };
        let mut best = COSTS.steps()[0];
        for step in &COSTS.steps()[1..] {
            if value(*step) > value(best) {
                best = *step;
            }
        }
        if value(best) <= 0.0 {
            break;
        }
        (row, column) = (row - best.0.0, column - best.0.1);
    }
    path.reverse();
    path
}

/// Cuts a path where it jumps, or has no hits for more than `max_gap` cells; returns the piece with the most hits, which begins and
/// ends with a hit.
fn best_piece(path: &Piece, max_gap: usize) -> Option<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut pending: Piece = Vec::new();
    for cell in path {
        if !cell.hit {
            pending.push(*cell);
            continue;
        }
        let joined = pieces.last_mut().filter(|piece| {
            let last = piece[piece.len() - 1];
            let (down, right) = (cell.row - last.row, cell.column - last.column);
            pending.len() <= max_gap && (pending.is_empty() || down.abs_diff(right) <= MAX_JUMP)
        });
        match joined {
            Some(piece) => {
                piece.append(&mut pending);
                piece.push(*cell);
            }
            None => {
                pending.clear();
                pieces.push(vec![*cell]);
            }
        }
    }
    pieces.into_iter().max_by_key(hits)
}

/// Returns the number of hits of a piece.
fn hits(piece: &Piece) -> usize {
    piece.iter().filter(|cell| cell.hit).count()
}

/// Removes the moments of a piece from the plot, in both directions.
fn clear(plot: &mut Plot, piece: &Piece) {
    let (from, to) = (piece[0], piece[piece.len() - 1]);
    for (row, hits) in plot.hits.chunks_exact_mut(plot.columns).enumerate() {
        if (from.row..=to.row).contains(&row) {
            hits.fill(0.0);
        } else {
            hits[from.column..=to.column].fill(0.0);
        }
    }
}

/// Cuts sections that overlap in a recording in the middle of the overlap.
fn cut_overlaps(sections: &mut [Section]) {
    let mut by_second: Vec<usize> = (0..sections.len()).collect();
    by_second.sort_by(|a, b| sections[*a].start_b.total_cmp(&sections[*b].start_b));
    for index in 1..sections.len() {
        let (early, late) = (index - 1, index);
        if sections[early].end_a > sections[late].start_a {
            let middle = 0.5 * (sections[early].end_a + sections[late].start_a);
            (sections[early].end_a, sections[late].start_a) = (middle, middle);
        }
        let (early, late) = (by_second[index - 1], by_second[index]);
        if sections[early].end_b > sections[late].start_b {
            let middle = 0.5 * (sections[early].end_b + sections[late].start_b);
            (sections[early].end_b, sections[late].start_b) = (middle, middle);
        }
    }
}

fn dot(a: &[f32; PITCH_CLASSES], b: &[f32; PITCH_CLASSES]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Weighted sums from which the common slope of several sections is computed.
#[derive(Default)]
struct Slopes {
    rows: f64,
    both: f64,
}

impl Slopes {
    /// Adds a section's slope, weighted by the cube of the section's length, as in least squares through its points.
    fn add(&mut self, ends: &Ends, line: &Line) {
        let weight = ((ends.to - ends.from) as f64).powi(3);
        self.rows += weight;
        self.both += weight * line.slope;
    }

    fn common(&self) -> f64 {
        if self.rows > 0.0 { self.both / self.rows } else { 1.0 }
    }
}

/// Means and central moments of the hits of a piece.
struct Moments {
    /// Sum of the squared deviations of rows from their mean.
    row_squares: f64,
    /// Sum of the products of row and column deviations from their means.
    row_column_products: f64,
    mean_row: f64,
    mean_column: f64,
}

fn moments(piece: &Piece) -> Moments {
    let hits: Vec<(f64, f64)> =
        piece.iter().filter(|cell| cell.hit).map(|cell| (cell.row as f64, cell.column as f64)).collect();
    let count = hits.len().max(1) as f64;
    let (mean_row, mean_column) =
        hits.iter().fold((0.0, 0.0), |sum, hit| (sum.0 + hit.0 / count, sum.1 + hit.1 / count));
    Moments {
        row_squares: hits.iter().map(|hit| (hit.0 - mean_row) * (hit.0 - mean_row)).sum(),
        row_column_products: hits.iter().map(|hit| (hit.0 - mean_row) * (hit.1 - mean_column)).sum(),
        mean_row,
        mean_column,
    }
}

/// The extent of a section in the first recording, and how well it matches.
struct Ends {
    /// First cell of the section.
    from: usize,
    /// The cell after the last one of the section.
    to: usize,
    /// Sum over the section's cells of similarity minus threshold.
    similarity: f32,
    /// Mean similarity of the section's cells minus that of unrelated cells.
    likeness: f32,
}

/// A line through a piece: a slope and a point on it, in cells.
#[derive(Clone, Copy)]
struct Line {
    slope: f64,
    row: f64,
    column: f64,
}

impl Line {
    /// Fits a line through the hits of a piece by least squares; `None` if they are all in one row.
    fn through(piece: &Piece) -> Option<Self> {
        let Moments { row_squares, row_column_products, mean_row, mean_column } = moments(piece);
        if row_squares <= 0.0 {
            return None;
        }
        // Clamped, because a few hits do not determine a slope.
        let slope = (row_column_products / row_squares).clamp(1.0 / MAX_SLOPE, MAX_SLOPE);
        Some(Self { slope, row: mean_row, column: mean_column })
    }

    /// Returns the column on the line at a row.
    fn at(&self, row: f64) -> f64 {
        self.column + self.slope * (row - self.row)
    }
}

/// Both recordings in cells, and the cells that are already in sections.
struct Grids<'a> {
    a: &'a Chroma,
    b: &'a Chroma,
    depth: usize,
    /// Similarity of unrelated cells.
    unrelated: f32,
    /// Whether each cell of `a` is already in a section.
    taken_a: Vec<bool>,
    /// Whether each cell of `b` is already in a section.
    taken_b: Vec<bool>,
}

impl<'a> Grids<'a> {
    fn new(a: &'a Chroma, b: &'a Chroma, depth: usize) -> Self {
        let (taken_a, taken_b) = (vec![false; a.columns.len()], vec![false; b.columns.len()]);
        Self { a, b, depth, unrelated: dot(&a.mean(), &b.mean()), taken_a, taken_b }
    }

    /// Returns the cell of `b` that the line matches with a cell of `a`; `None` beyond the ends of `b`.
    fn matching_cell(&self, line: &Line, cell: usize) -> Option<usize> {
        let column = line.at(cell as f64).round();
        (column >= 0.0 && (column as usize) < self.b.columns.len()).then_some(column as usize)
    }

    /// Marks a section's cells as taken.
    fn take(&mut self, ends: &Ends, line: &Line) {
        for cell in ends.from..ends.to {
            self.taken_a[cell] = true;
            if let Some(matching) = self.matching_cell(line, cell) {
                self.taken_b[matching] = true;
            }
        }
    }

    /// Returns the ends of the section around a piece. Whether moments at the edge of a section match is uncertain, because they
    /// are partly outside of it. Therefore the run of single cells along the line is found, up to [`MAX_EXTENSION_S`] beyond the
    /// piece, for which the sum of similarity minus threshold ([`END_SHARE`]) is greatest.
    fn ends(&self, piece: &Piece, line: &Line) -> Option<Ends> {
        let (first, last) = (piece[0].row, piece[piece.len() - 1].row + self.depth - 1);
        let beyond = (MAX_EXTENSION_S / self.a.column_s) as usize;
        let from = first.saturating_sub(beyond);
        let to = (last + beyond).min(self.a.columns.len() - 1);
        let similarity = |cell: usize| -> Option<f32> {
            let matching = self.matching_cell(line, cell).filter(|matching| !self.taken_b[*matching])?;
            (!self.taken_a[cell]).then(|| dot(&self.a.columns[cell], &self.b.columns[matching]))
        };
        let similarities: Vec<Option<f32>> = (from..=to).map(similarity).collect();
        let inside: Vec<f32> = similarities[first - from..=last - from].iter().copied().flatten().collect();
        let within = inside.iter().sum::<f32>() / inside.len().max(1) as f32;
        let threshold = self.unrelated + END_SHARE * (within - self.unrelated);
        // The greatest sum of a run (Kadane); cells that are taken or beyond the second recording end every run.
        let (mut best, mut sum, mut start) = ((0.0f32, 0usize, 0usize), 0.0f32, 0);
        for (index, similarity) in similarities.iter().enumerate() {
            sum += similarity.map_or(f32::NEG_INFINITY, |similarity| similarity - threshold);
            if sum <= 0.0 {
                (sum, start) = (0.0, index + 1);
            } else if sum > best.0 {
                best = (sum, start, index + 1);
            }
        }
        (best.0 > 0.0).then_some(Ends {
            from: from + best.1,
            to: from + best.2,
            similarity: best.0,
            likeness: within - self.unrelated,
        })
    }

    /// Returns the line near `line` along which the cells are most similar, with the section's ends. A slope fitted to the hits
    /// alone is not precise enough: they deviate by up to two cells from a line, which can amount to a second after a minute.
    fn best_line(&self, piece: &Piece, line: &Line) -> Option<(Ends, Line)> {
        let slopes = (-8..=8).map(|step| line.slope * (1.0 + 0.0025 * f64::from(step)));
        let lines = slopes.flat_map(|slope| {
            (-4..=4).map(move |step| Line { slope, column: line.column + 0.5 * f64::from(step), ..*line })
        });
        let better = |best: Option<(Ends, Line)>, line: Line| match (self.ends(piece, &line), best) {
            (Some(ends), Some(best)) if ends.similarity <= best.0.similarity => Some(best),
            (Some(ends), _) => Some((ends, line)),
            (None, best) => best,
        };
        lines.fold(self.ends(piece, line).map(|ends| (ends, *line)), better)
    }

    fn section(&self, &Ends { from, to, .. }: &Ends, line: &Line) -> Section {
        let second = |cell: usize| (line.at(cell as f64) * self.b.column_s).clamp(0.0, self.b.duration_s());
        Section {
            start_a: from as f64 * self.a.column_s,
            end_a: to as f64 * self.a.column_s,
            start_b: second(from),
            end_b: second(to),
        }
    }

    /// Returns the times of a piece's cells within a section: the middles of moments.
    fn times(&self, piece: &Piece, &Ends { from, to, .. }: &Ends) -> Vec<(f64, f64)> {
        let middle = self.depth as f64 / 2.0;
        let inside = |cell: &&PathCell| {
            let row = cell.row as f64 + middle;
            from as f64 <= row && row <= to as f64
        };
        let time = |cell: &PathCell| {
            ((cell.row as f64 + middle) * self.a.column_s, (cell.column as f64 + middle) * self.b.column_s)
        };
        piece.iter().filter(inside).map(time).collect()
    }
}
