//! Which contestant is faster, by how much, and was the machine the same for all?

use crate::machine;

/// How far the bounce of a cache line may be from the contest's median in a round that counts.
const ALIKE: f64 = 1.4;
/// How many interruptions more than twice the fewest a batch that counts may have.
const FEW: libc::c_long = 3;

/// What a whole run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) rounds: usize,
    /// Divides the length of every batch.
    pub(crate) hurry: usize,
}

/// A name for the filter, and what it runs.
pub(crate) type Row = (&'static str, fn(Settings));

/// Runs the rows that the arguments name, or all: a few rounds of each with `--quick`.
pub(crate) fn run(rows: &[Row], arguments: &[String]) {
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let (rounds, hurry) = if quick { (3, 5) } else { (31, 1) };
    let filters: Vec<&String> = arguments
        .iter()
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    println!("{}", machine::describe());
    for (name, row) in rows {
        if filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())) {
            row(Settings { rounds, hurry });
        }
    }
}

/// One batch of a contestant, the bounce of a cache line before and after it, and how often others
/// took the CPUs.
#[derive(Debug, Clone, Copy)]
struct Sample {
    value: f64,
    bounces: [f64; 2],
    interruptions: libc::c_long,
}

/// A contestant's line of the table.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) median: f64,
    quartiles: [f64; 2],
    ratio: f64,
}

/// The lines in the contestants' order, and under what conditions they came about.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) lines: Vec<Line>,
    title: String,
    unit: &'static str,
    conditions: String,
}

/// Contestants that run in alternation. The first is the limit, or what to compare with.
pub(crate) struct Contest<'a> {
    title: String,
    unit: &'static str,
    contestants: Vec<(String, Box<dyn FnMut() -> f64 + 'a>)>,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(title: impl Into<String>, unit: &'static str) -> Self {
        Self {
            title: title.into(),
            unit,
            contestants: Vec::new(),
        }
    }

    /// `batch` runs one batch and gives its result in the contest's unit.
    pub(crate) fn add(mut self, name: impl Into<String>, batch: impl FnMut() -> f64 + 'a) -> Self {
        self.contestants.push((name.into(), Box::new(batch)));
        self
    }

    pub(crate) fn measure(mut self, settings: Settings) -> Results {
        let mut samples = vec![Vec::new(); self.contestants.len()];
        let mut before = machine::bounce();
        for _ in 0..settings.rounds {
            for ((_, batch), samples) in self.contestants.iter_mut().zip(&mut samples) {
                machine::watch();
                let earlier = machine::interruptions();
                let value = batch();
                let interruptions = machine::interruptions() - earlier;
                let after = machine::bounce();
                samples.push(Sample {
                    value,
                    bounces: [before, after],
                    interruptions,
                });
                before = after;
            }
        }
        self.summarize(&samples)
    }

    pub(crate) fn run(self, settings: Settings) {
        self.measure(settings).print();
    }

    fn summarize(self, samples: &[Vec<Sample>]) -> Results {
        let all = || samples.iter().flatten();
        let usual = quantile(all().flat_map(|sample| sample.bounces).collect(), 0.5);
        let near = |bounce: &f64| (usual / ALIKE..usual * ALIKE).contains(bounce);
        let alike: Vec<Vec<bool>> = samples
            .iter()
            .map(|own| {
                let calmest = own.iter().map(|sample| sample.interruptions).min();
                let most = 2 * calmest.unwrap_or(0) + FEW;
                own.iter()
                    .map(|sample| sample.interruptions <= most && sample.bounces.iter().all(near))
                    .collect()
            })
            .collect();
        let counted = alike.iter().flatten().filter(|alike| **alike).count();

        let lines = self.contestants.into_iter().zip(samples).zip(&alike);
        let lines = lines.map(|(((name, _), own), counts)| {
            let own = || {
                own.iter()
                    .zip(counts)
                    .map(|(own, counts)| (own.value, *counts))
            };
            let limits = samples[0].iter().zip(&alike[0]);
            let values: Vec<f64> = own().filter(|own| own.1).map(|own| own.0).collect();
            let ratios = own()
                .zip(limits)
                .filter(|(own, limit)| own.1 && *limit.1)
                .map(|(own, limit)| own.0 / limit.0.value);
            Line {
                name,
                median: quantile(values.clone(), 0.5),
                quartiles: [0.25, 0.75].map(|q| quantile(values.clone(), q)),
                ratio: quantile(ratios.collect(), 0.5),
            }
        });
        let lines = lines.collect();
        let total = all().count();
        let interruptions: libc::c_long = all().map(|sample| sample.interruptions).sum();
        Results {
            lines,
            title: self.title,
            unit: self.unit,
            conditions: format!(
                "bounce {usual:.0} ns, {counted} of {total} batches count, \
                 {interruptions} interruptions"
            ),
        }
    }
}

impl Results {
    pub(crate) fn print(&self) {
        let Self {
            title,
            unit,
            conditions,
            ..
        } = self;
        let first = if self.lines[0].name.starts_with("limit") {
            "of the limit"
        } else {
            "of the first"
        };
        println!("\n| {title} ({conditions}) | {unit} | middle half | {first} |");
        println!("|---|--:|--:|--:|");
        for line in &self.lines {
            let [low, high] = line.quartiles.map(short);
            let (name, median) = (&line.name, short(line.median));
            println!("| {name} | {median} | {low} – {high} | {:.2} |", line.ratio);
        }
    }
}

/// Three digits or more.
fn short(value: f64) -> String {
    let decimals = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// The value below which the part `q` of all values lies, between two of them if need be; no number
/// if there is none.
pub(crate) fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let Some(last) = values.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = last as f64 * q;
    let (low, high) = (values[at.floor() as usize], values[at.ceil() as usize]);
    low + (high - low) * at.fract()
}
