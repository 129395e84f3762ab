//! Following a run: a bar for each image on a terminal, lines elsewhere.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::Output;

/// What is shown of a run while it goes on.
pub(super) struct Follow {
    view: View,
    /// The line of the log that was shown last. Of a long run the oldest lines are forgotten, so that they cannot be counted.
    shown: Option<Value>,
    /// What was told last of a run that waits.
    waits: String,
    last: Option<Value>,
}

enum View {
    /// Bars on standard error.
    Bars(MultiProgress, BTreeMap<String, ProgressBar>),
    /// Lines on standard error.
    Lines,
    /// Nothing: standard output gets the end as JSON.
    Silent,
}

impl Follow {
    pub(super) fn new(output: Output) -> Self {
        let view = match output {
            Output::Json => View::Silent,
            Output::Text if io::stderr().is_terminal() => View::Bars(MultiProgress::new(), BTreeMap::new()),
            Output::Text => View::Lines,
        };
        Self { view, shown: None, waits: String::new(), last: None }
    }

    /// The run as it is now.
    pub(super) fn seen(&mut self, record: Value) {
        let log = record["log"].as_array().map(Vec::as_slice).unwrap_or_default();
        for line in fresh(log, self.shown.as_ref()) {
            self.say(line["text"].as_str().unwrap_or_default());
        }
        self.shown = log.last().cloned();
        if record["state"] == "waiting" {
            let text = |key: &str| record[key].as_str().unwrap_or_default();
            let waits = match text("reason") {
                "" => format!("waits until {}", text("due")),
                reason => format!("waits until {}: {reason}", text("due")),
            };
            if waits != self.waits {
                self.say(&waits);
                self.waits = waits;
            }
        }
        if let View::Bars(bars, images) = &mut self.view {
            draw(bars, images, &record["progress"]);
        }
        self.last = Some(record);
    }

    fn say(&self, text: &str) {
        match &self.view {
            // Above the bars; if it cannot be shown there is nobody to tell.
            View::Bars(bars, _) => drop(bars.println(text)),
            View::Lines => drop(writeln!(io::stderr().lock(), "{text}")),
            View::Silent => {}
        }
    }

    /// The run as it was seen last.
    pub(super) fn last(self) -> Option<Value> {
        if let View::Bars(bars, _) = &self.view {
            // It only leaves bars behind.
            let _ = bars.clear();
        }
        self.last
    }
}

/// The lines after the one that was shown last; all, if that is forgotten.
fn fresh<'l>(log: &'l [Value], shown: Option<&Value>) -> &'l [Value] {
    let after = log.iter().rposition(|line| Some(line) == shown).map_or(0, |last| last + 1);
    log.get(after..).unwrap_or_default()
}

fn draw(bars: &MultiProgress, images: &mut BTreeMap<String, ProgressBar>, progress: &Value) {
    let now: Vec<&Value> = progress["images"].as_array().into_iter().flatten().collect();
    let name = |image: &Value| image["tag"].as_str().unwrap_or_default().to_owned();
    images.retain(|tag, bar| {
        let stays = now.iter().any(|image| name(image) == *tag);
        if !stays {
            bar.finish_and_clear();
        }
        stays
    });
    for image in now {
        let bar = images.entry(name(image)).or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(0));
            let style =
                ProgressStyle::with_template("{prefix:24} {wide_bar} {binary_bytes:>11} of {binary_total_bytes:>11} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_prefix(name(image));
            bar
        });
        let count = |key: &str| image[key].as_u64().unwrap_or_default();
        bar.set_length(count("bytes_known"));
        bar.set_position(count("bytes_done"));
        bar.set_message(format!("{}/{} blobs", count("blobs_done"), count("blobs_known")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_shown_once_although_the_oldest_are_forgotten() {
        let log =
            |range: std::ops::Range<u32>| -> Vec<Value> { range.map(|number| json!({ "text": number.to_string() })).collect() };
        let first = log(0..200);
        assert_eq!(fresh(&first, None).len(), 200);
        let next = log(5..205);
        assert_eq!(fresh(&next, first.last()), &next[195..]);
        assert!(fresh(&next, next.last()).is_empty());
        assert_eq!(fresh(&log(900..1100), next.last()).len(), 200);
    }
}
