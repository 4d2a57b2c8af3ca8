//! What the user sees: a table or JSON on standard output, progress on standard error.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};

use crate::exchange::Measured;
use crate::mechanism::Mechanism;

/// The result of one mechanism.
#[derive(Debug)]
pub(crate) struct Row {
    mechanism: &'static Mechanism,
    result: Result<Measured, (Blame, String)>,
}

/// Who stopped a mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    Kernel,
    Us,
}

impl Row {
    /// All arrived.
    pub(crate) fn verified(mechanism: &'static Mechanism, measured: Measured) -> Self {
        let result = Ok(measured);
        Self { mechanism, result }
    }

    /// The kernel does not have it, or does not allow it.
    pub(crate) fn refused(mechanism: &'static Mechanism, why: String) -> Self {
        let result = Err((Blame::Kernel, why));
        Self { mechanism, result }
    }

    /// It should have worked.
    pub(crate) fn failed(mechanism: &'static Mechanism, why: String) -> Self {
        let result = Err((Blame::Us, why));
        Self { mechanism, result }
    }

    /// Whether it should have worked, and did not.
    pub(crate) fn broken(&self) -> bool {
        matches!(self.result, Err((Blame::Us, _)))
    }

    fn json(&self) -> String {
        let name = self.mechanism.name;
        match &self.result {
            Ok(m) => format!(
                r#"{{"mechanism":"{name}","bytes":{},"verified":true,"gib_per_s":{:.4},"rtt_ns_median":{},"rtt_ns_p99":{}}}"#,
                m.bytes,
                gib_per_s(m),
                m.median.as_nanos(),
                m.p99.as_nanos(),
            ),
            Err(_) => format!(
                r#"{{"mechanism":"{name}","bytes":null,"verified":false,"gib_per_s":null,"rtt_ns_median":null,"rtt_ns_p99":null,"error":{}}}"#,
                json_string(&self.error()),
            ),
        }
    }

    /// Why there is no result; empty if there is one.
    fn error(&self) -> String {
        match &self.result {
            Ok(_) => String::new(),
            Err((Blame::Kernel, why)) => format!("refused: {why}"),
            Err((Blame::Us, why)) => format!("failed: {why}"),
        }
    }

    fn cells(&self) -> [Cell; 7] {
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        let Mechanism { name, good_for, .. } = self.mechanism;
        let none = || right("-".to_owned());
        match &self.result {
            Ok(m) => [
                Cell::new(name),
                Cell::new(good_for),
                right(m.bytes.to_string()),
                Cell::new("yes"),
                right(format!("{:.2}", gib_per_s(m))),
                right(microseconds(m.median)),
                right(microseconds(m.p99)),
            ],
            Err(_) => [
                Cell::new(name),
                Cell::new(format!("{good_for}\n{}", self.error())),
                none(),
                Cell::new("no"),
                none(),
                none(),
                none(),
            ],
        }
    }
}

fn gib_per_s(measured: &Measured) -> f64 {
    measured.bytes as f64 / f64::from(1 << 30) / measured.transfer.as_secs_f64()
}

fn microseconds(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}

fn json_string(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Writing to a string cannot fail.
            c if c < ' ' => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Where the rows go.
#[derive(Debug)]
pub(crate) enum Output {
    /// A line each, at once.
    Json,
    /// All at the end.
    Table(Box<Table>),
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        if json {
            return Self::Json;
        }
        let mut table = Table::new();
        table
            .load_style(presets::UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(100)
            .set_header([
                "mechanism",
                "good for",
                "bytes",
                "verified",
                "GiB/s",
                "trip, µs",
                "p99, µs",
            ]);
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        Self::Table(Box::new(table))
    }

    pub(crate) fn row(&mut self, row: Row) -> io::Result<()> {
        match self {
            Self::Json => writeln!(io::stdout(), "{}", row.json()),
            Self::Table(table) => {
                table.add_row(row.cells());
                Ok(())
            }
        }
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Table(table) => writeln!(io::stdout(), "{table}"),
        }
    }
}

/// Progress on standard error: one line that changes on a terminal, else a line a mechanism.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    total: usize,
    number: usize,
}

impl Progress {
    /// `total` mechanisms will follow.
    pub(crate) fn new(total: usize) -> Self {
        Self {
            terminal: io::stderr().is_terminal(),
            total,
            number: 0,
        }
    }

    /// A mechanism begins.
    pub(crate) fn begin(&mut self, mechanism: &Mechanism) {
        self.number += 1;
        self.sent(mechanism, 0, 1);
    }

    /// So much of the file is sent.
    pub(crate) fn sent(&self, mechanism: &Mechanism, sent: u64, length: u64) {
        if self.terminal {
            let percent = sent as f64 / length.max(1) as f64 * 100.0;
            self.line(mechanism, &format!("{percent:.0} %"));
        }
    }

    /// A mechanism is done.
    pub(crate) fn end(&self, row: &Row) {
        if !self.terminal {
            match &row.result {
                Ok(_) => self.line(row.mechanism, "verified"),
                Err(_) => self.line(row.mechanism, &row.error()),
            }
        }
    }

    fn line(&self, mechanism: &Mechanism, state: &str) {
        let (number, total, name) = (self.number, self.total, mechanism.name);
        let (before, after) = if self.terminal {
            ("\r\x1b[K", "")
        } else {
            ("", "\n")
        };
        self.write(&format!(
            "{before}[{number:2}/{total}] {name}: {state}{after}"
        ));
    }

    /// Progress that nobody can see is no reason to stop.
    fn write(&self, text: &str) {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

impl Drop for Progress {
    /// The next line on the terminal is not ours.
    fn drop(&mut self) {
        if self.terminal {
            self.write("\r\x1b[K");
        }
    }
}
