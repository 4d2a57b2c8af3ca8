//! What the user sees: a table or JSON on standard output, progress on standard error.

use std::env;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};
use rustix::termios::tcgetwinsize;

use crate::exchange::Measured;
use crate::mechanism::Mechanism;

/// The result of one mechanism.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) mechanism: &'static Mechanism,
    pub(crate) outcome: Outcome,
}

/// How a mechanism did.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// All arrived.
    Verified(Measured),
    /// The kernel does not have it, or does not allow it.
    Refused(String),
    /// It should have worked.
    Failed(String),
}

impl Row {
    /// What was measured, or else what happened and why.
    fn result(&self) -> Result<&Measured, (&'static str, &str)> {
        match &self.outcome {
            Outcome::Verified(measured) => Ok(measured),
            Outcome::Refused(why) => Err(("refused", why)),
            Outcome::Failed(why) => Err(("failed", why)),
        }
    }

    /// In words.
    fn state(&self) -> String {
        match self.result() {
            Ok(_) => "verified".to_owned(),
            Err((status, why)) => format!("{status}: {why}"),
        }
    }

    fn json(&self) -> String {
        let name = self.mechanism.name;
        match self.result() {
            Ok(m) => format!(
                r#"{{"mechanism":"{name}","bytes":{},"verified":true,"gib_per_s":{:.4},"rtt_ns_median":{},"rtt_ns_p99":{}}}"#,
                m.arrived.length,
                gib_per_s(m),
                m.median.as_nanos(),
                m.p99.as_nanos(),
            ),
            Err((status, why)) => format!(
                r#"{{"mechanism":"{name}","bytes":null,"verified":false,"gib_per_s":null,"rtt_ns_median":null,"rtt_ns_p99":null,"status":"{status}","error":{}}}"#,
                json_string(why),
            ),
        }
    }

    /// One for each column of [`HEADER`].
    fn cells(&self) -> [String; 7] {
        let Mechanism { name, good_for, .. } = self.mechanism;
        let [bytes, verified, rate, median, p99] = match self.result() {
            Ok(m) => [
                m.arrived.length.to_string(),
                "yes".to_owned(),
                match m.arrived.length {
                    0 => "-".to_owned(),
                    _ => format!("{:.2}", gib_per_s(m)),
                },
                microseconds(m.median),
                microseconds(m.p99),
            ],
            Err((status, _)) => ["-", status, "-", "-", "-"].map(str::to_owned),
        };
        let good_for_or_why = match self.result() {
            Ok(_) => (*good_for).to_owned(),
            Err((_, why)) => lines(why),
        };
        let name = (*name).to_owned();
        [name, good_for_or_why, bytes, verified, rate, median, p99]
    }
}

const HEADER: [&str; 7] = [
    "mechanism",
    "good for",
    "bytes",
    "verified",
    "GiB/s",
    "round\ntrip, µs",
    "\np99, µs",
];
/// The column that a narrow table goes without.
const GOOD_FOR: usize = 1;
const NUMBERS: [usize; 4] = [2, 4, 5, 6];

/// The rows under each other. Why some have no numbers stands in place of what they are good for,
/// or below a table that has no room for that.
fn table(rows: &[Row], width: usize) -> String {
    let wide = grid(rows, false);
    if wide.lines().all(|line| line.chars().count() <= width) {
        return wide;
    }
    let mut text = grid(rows, true);
    for row in rows.iter().filter(|row| row.result().is_err()) {
        // Writing to a string cannot fail.
        let _ = write!(text, "\n{}: {}", row.mechanism.name, row.state());
    }
    text
}

/// The words of a text in lines that are about as long as what a mechanism is good for.
fn lines(text: &str) -> String {
    const LEN: usize = 30;
    let mut lines = String::new();
    let mut line = 0;
    for word in text.split_whitespace() {
        let len = word.chars().count();
        if line > 0 && line + 1 + len > LEN {
            lines.push('\n');
            line = 0;
        } else if line > 0 {
            lines.push(' ');
            line += 1;
        }
        lines.push_str(word);
        line += len;
    }
    lines
}

fn grid(rows: &[Row], narrow: bool) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_BORDERS_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(HEADER)
        .add_rows(rows.iter().map(Row::cells));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, u16::from(!narrow)));
        if NUMBERS.contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        if narrow && index == GOOD_FOR {
            column.set_constraint(ColumnConstraint::Hidden);
        }
    }
    table.to_string()
}

/// How many characters fit a line: of `COLUMNS`, of the terminal, or of a page.
fn width() -> usize {
    let columns = env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    let terminal = || Some(usize::from(tcgetwinsize(io::stdout()).ok()?.ws_col));
    columns
        .or_else(terminal)
        .filter(|columns| *columns > 0)
        .unwrap_or(100)
}

fn gib_per_s(measured: &Measured) -> f64 {
    measured.arrived.length as f64 / f64::from(1 << 30) / measured.transfer.as_secs_f64()
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
    Table(Vec<Row>),
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        match json {
            true => Self::Json,
            false => Self::Table(Vec::new()),
        }
    }

    pub(crate) fn row(&mut self, row: Row) -> io::Result<()> {
        match self {
            Self::Json => writeln!(io::stdout(), "{}", row.json()),
            Self::Table(rows) => {
                rows.push(row);
                Ok(())
            }
        }
    }

    pub(crate) fn finish(self) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Table(rows) => writeln!(io::stdout(), "{}", table(&rows, width())),
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
            self.line(row.mechanism, &row.state());
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
