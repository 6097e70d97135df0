//! Converts notes to the loudness of every pitch over time.

/// A note ends when its amplitude falls below this share of its full amplitude.
const SILENCE: f32 = 1e-3;
/// A decay of this many columns or more is treated as no decay.
const STEADY: f32 = 1e4;

/// The envelope of a note, in columns.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// Time from silence to full amplitude.
    pub attack: f32,
    /// Time in which the amplitude of a sustained note falls to 1/e.
    pub decay: f32,
    /// Time in which the amplitude falls to 1/e after the note has ended.
    pub release: f32,
}

/// The amplitudes of one pitch.
#[derive(Debug, Clone)]
pub struct Row {
    /// The key to which the notes were added.
    pub key: usize,
    /// First column with a note.
    pub first: usize,
    /// The column after the last one with a note.
    pub last: usize,
    /// One amplitude for each column, the mean over the column.
    pub values: Vec<f32>,
}

/// The amplitudes of all pitches. Rows are only allocated for keys to which a note is added.
pub struct Roll {
    columns: usize,
    row_numbers: Vec<u16>,
    rows: Vec<Row>,
}

impl Roll {
    /// Creates an empty roll for keys below `keys`.
    pub fn new(keys: usize, columns: usize) -> Self {
        Self { columns, row_numbers: vec![u16::MAX; keys], rows: Vec::new() }
    }

    /// Returns the rows that have notes, with powers (squared amplitudes) as values.
    pub fn into_powers(mut self) -> Vec<Row> {
        // A note too short to fall into any column leaves a row in which nothing is set.
        self.rows.retain(|row| row.first < row.last);
        for row in &mut self.rows {
            row.values[row.first..row.last].iter_mut().for_each(|value| *value *= *value);
        }
        self.rows
    }

    /// Adds a note from column `start` to `end`, which may be fractions.
    pub fn add(&mut self, key: usize, start: f32, end: f32, amplitude: f32, envelope: Envelope) {
        // A linear attack is as loud on the whole as one that begins at its middle.
        let start = start + 0.5 * envelope.attack.min(end - start);
        if start >= self.columns as f32 || key >= self.row_numbers.len() {
            return;
        }
        let columns = self.columns;
        let row = self.row(key);
        let level = row.segment(start, end.min(columns as f32), amplitude, envelope.decay);
        if end < columns as f32 && level > SILENCE * amplitude {
            let longest = (level / (SILENCE * amplitude)).ln() * envelope.release;
            row.segment(end, (end + longest).min(columns as f32), level, envelope.release);
        }
    }

    fn row(&mut self, key: usize) -> &mut Row {
        if self.row_numbers[key] == u16::MAX {
            self.row_numbers[key] = self.rows.len() as u16;
            self.rows.push(Row { key, first: self.columns, last: 0, values: vec![0.0; self.columns] });
        }
        &mut self.rows[self.row_numbers[key] as usize]
    }
}

impl Row {
    /// Adds `amplitude * exp(-(t - from) / decay)` for t in `from..to`, averaged over each column; returns the amplitude at `to`.
    fn segment(&mut self, from: f32, to: f32, amplitude: f32, decay: f32) -> f32 {
        if to <= from {
            return amplitude;
        }
        let steady = decay > STEADY;
        let (mut now, mut at) = (amplitude, from);
        let whole = (-1.0 / decay).exp();
        if at < 0.0 {
            now *= if steady { 1.0 } else { (at / decay).exp() };
            at = 0.0;
            if to <= 0.0 {
                return if steady { amplitude } else { amplitude * ((from - to) / decay).exp() };
            }
        }
        let (first, last) = (at as usize, (to.ceil() as usize).min(self.values.len()));
        if first >= last {
            return now;
        }
        (self.first, self.last) = (self.first.min(first), self.last.max(last));
        for (column, value) in self.values.iter_mut().enumerate().take(last).skip(first) {
            let next = to.min((column + 1) as f32);
            let length = next - at;
            if steady {
                *value += now * length;
            } else {
                let after = now * if length == 1.0 { whole } else { (-length / decay).exp() };
                *value += decay * (now - after);
                now = after;
            }
            at = next;
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: f32, end: f32, envelope: Envelope) -> Vec<f32> {
        let mut roll = Roll::new(1, 8);
        roll.add(0, start, end, 1.0, envelope);
        roll.rows.pop().map_or(Vec::new(), |row| row.values)
    }

    #[test]
    fn steady_note_fills_columns_in_proportion() {
        let steady = Envelope { attack: 0.0, decay: f32::INFINITY, release: 1e-6 };
        let values = row(1.25, 3.5, steady);
        for (value, expected) in values.iter().zip([0.0, 0.75, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0]) {
            assert!((value - expected).abs() < 1e-5, "{values:?}");
        }
        assert_eq!(row(-3.0, 1.0, steady)[0], 1.0);
    }

    #[test]
    fn columns_are_means_of_the_decaying_amplitude() {
        let decaying = Envelope { attack: 0.0, decay: 2.0, release: 0.5 };
        let values = row(0.5, 4.25, decaying);
        let loudness = |t: f64| match t {
            t if t < 0.5 => 0.0,
            t if t < 4.25 => (-(t - 0.5) / 2.0).exp(),
            t => (-3.75f64 / 2.0).exp() * (-(t - 4.25) / 0.5).exp(),
        };
        for (column, value) in values.iter().enumerate() {
            let sum: f64 = (0..1000).map(|n| loudness(column as f64 + (n as f64 + 0.5) / 1000.0)).sum();
            assert!((f64::from(*value) - sum / 1000.0).abs() < 2e-3, "{column}: {value} {}", sum / 1000.0);
        }
        let before = row(-2.0, 3.0, decaying);
        assert!((before[0] - 2.0 * ((-1.0f32).exp() - (-1.5f32).exp())).abs() < 1e-5, "{before:?}");
        assert!(row(9.0, 10.0, decaying).is_empty());
    }
}
