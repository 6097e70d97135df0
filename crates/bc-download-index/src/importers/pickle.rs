//! The strings of a pickled NumPy object array.
//!
//! `np.save` writes an array of Python strings as a pickle (protocols 2 to 5). A pickle is a program for
//! a stack machine; the machine here knows the instructions that such arrays consist of, imports
//! nothing, calls nothing, and refuses every other instruction. Values are indices into tables, and strings are slices of
//! the input, so that an input can neither nest deeply nor grow: memory stays proportional to its length, however often it
//! names the same string.

use anyhow::{Context, Result, bail, ensure};

/// A value on the stack. Values that do not matter here, such as an array's type and shape, are [`Value::Other`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Mark,
    /// An index into the table of texts.
    Text(usize),
    /// An index into the table of lists.
    List(usize),
    /// A tuple that ends in a list, as an array's state does.
    EndsInList(usize),
    Other,
}

/// The stack machine.
struct Machine<'a> {
    input: &'a [u8],
    /// Offset of the next instruction.
    at: usize,
    stack: Vec<Value>,
    /// Values that instructions have stored for later use.
    memo: Vec<Value>,
    texts: Vec<&'a str>,
    lists: Vec<Vec<Value>>,
    /// Index of the list of the array's elements, once its state was set.
    elements: Option<usize>,
}

/// Reads the strings of the pickle `input`, in order, as slices of it.
pub(super) fn strings(input: &[u8]) -> Result<Vec<&str>> {
    let mut machine = Machine {
        input,
        at: 0,
        stack: Vec::new(),
        memo: Vec::new(),
        texts: Vec::new(),
        lists: Vec::new(),
        elements: None,
    };
    loop {
        let start = machine.at;
        if machine.step().with_context(|| format!("byte {start} of the pickle"))? {
            break;
        }
    }
    let list = machine.elements.context("the pickle holds no array")?;
    machine.lists[list]
        .iter()
        .enumerate()
        .map(|(number, value)| match value {
            Value::Text(text) => Ok(machine.texts[*text]),
            _ => bail!("element {number} is not a string"),
        })
        .collect()
}

impl<'a> Machine<'a> {
    /// Executes one instruction; true at the end.
    // Long: one arm per instruction of the pickle machine.
    fn step(&mut self) -> Result<bool> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(true),
            // Protocol, frame.
            0x80 => {
                self.take(1)?;
            }
            0x95 => {
                self.take(8)?;
            }
            b'c' => {
                self.line()?; // module
                self.line()?; // name
                self.stack.push(Value::Other);
            }
            0x93 => {
                self.pop()?;
                self.pop()?;
                self.stack.push(Value::Other);
            }
            b'(' => self.stack.push(Value::Mark),
            b')' | b'N' | 0x88 | 0x89 | b'}' => self.stack.push(Value::Other),
            b'K' => self.other(1)?,
            b'M' => self.other(2)?,
            b'J' => self.other(4)?,
            b'G' => self.other(8)?,
            0x8a => {
                let length = self.length(1)?;
                self.other(length)?;
            }
            b'C' | b'B' | 0x8e => {
                let length = self.length(match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.other(length)?;
            }
            // Texts; `U` and `T` are Python 2's byte strings.
            0x8c | b'X' | 0x8d | b'U' | b'T' => {
                let length = self.length(match code {
                    0x8c | b'U' => 1,
                    b'X' | b'T' => 4,
                    _ => 8,
                })?;
                let text = std::str::from_utf8(self.take(length)?).context("a string that is not UTF-8")?;
                self.texts.push(text);
                self.stack.push(Value::Text(self.texts.len() - 1));
            }
            b']' => {
                self.lists.push(Vec::new());
                self.stack.push(Value::List(self.lists.len() - 1));
            }
            b'a' => {
                let value = self.pop()?;
                self.extend(&[value])?;
            }
            b'e' => {
                let values = self.since_mark()?;
                self.extend(&values)?;
            }
            b't' => {
                let values = self.since_mark()?;
                self.tuple(&values);
            }
            0x85..=0x87 => {
                let count = usize::from(code - 0x84);
                ensure!(self.stack.len() >= count, "an empty stack");
                let values = self.stack.split_off(self.stack.len() - count);
                self.tuple(&values);
            }
            // Calls: REDUCE, NEWOBJ. Whatever would be called, its result is of no interest here.
            b'R' | 0x81 => {
                self.pop()?;
                self.pop()?;
                self.stack.push(Value::Other);
            }
            b'b' => {
                if let Value::EndsInList(list) = self.pop()? {
                    self.elements = Some(list);
                }
            }
            b'q' => {
                let slot = self.length(1)?;
                self.remember(slot)?;
            }
            b'r' => {
                let slot = self.length(4)?;
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len())?,
            b'h' | b'j' => {
                let slot = self.length(if code == b'h' { 1 } else { 4 })?;
                let value = self.memo.get(slot).context("a memo that was never set")?;
                self.stack.push(*value);
            }
            other => bail!("instruction 0x{other:02x}, which arrays of strings do not have"),
        }
        Ok(false)
    }

    /// Takes the next `count` bytes of the input.
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let rest = &self.input[self.at..];
        ensure!(rest.len() >= count, "the file ends too early");
        self.at += count;
        Ok(&rest[..count])
    }

    /// Skips a value of `count` bytes that does not matter.
    fn other(&mut self, count: usize) -> Result<()> {
        self.take(count)?;
        self.stack.push(Value::Other);
        Ok(())
    }

    /// Skips the rest of a line.
    fn line(&mut self) -> Result<()> {
        let rest = &self.input[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n').context("the file ends too early")?;
        self.at += end + 1;
        Ok(())
    }

    /// Reads a little-endian number of `bytes` bytes.
    fn length(&mut self, bytes: usize) -> Result<usize> {
        let number = self.take(bytes)?.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(number).context("a length beyond memory")
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().context("an empty stack")
    }

    /// Pops the values above the last mark, and the mark.
    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|&value| value == Value::Mark).context("no mark")?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    /// Pushes a tuple of these values.
    fn tuple(&mut self, values: &[Value]) {
        self.stack.push(match values.last() {
            Some(Value::List(list)) => Value::EndsInList(*list),
            _ => Value::Other,
        });
    }

    /// Appends values to the list on top of the stack.
    fn extend(&mut self, values: &[Value]) -> Result<()> {
        let Some(Value::List(list)) = self.stack.last() else { bail!("no list to append to") };
        self.lists[*list].extend_from_slice(values);
        Ok(())
    }

    /// Stores the value on top of the stack in a slot of the memo.
    fn remember(&mut self, slot: usize) -> Result<()> {
        let value = *self.stack.last().context("an empty stack")?;
        // Writers number memos one after the other; a leap would only cost memory.
        ensure!(slot <= self.input.len(), "memo {slot} in a file of {} bytes", self.input.len());
        if self.memo.len() <= slot {
            self.memo.resize(slot + 1, Value::Other);
        }
        self.memo[slot] = value;
        Ok(())
    }
}
