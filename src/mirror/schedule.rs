//! When a mirror runs: five fields of cron in a time zone.

use std::fmt;
use std::time::SystemTime;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

/// A schedule: minute, hour, day of the month, month, day of the week; also `@weekly` and its like, `L` and `#`.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    text: String,
    zone: TimeZone,
    zone_name: String,
}

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Not five fields of cron.
    #[error("{text:?} is not a schedule of five fields ({reason})")]
    Cron {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A day that never comes, such as the 31st of February.
    #[error("{0:?} never comes")]
    Never(String),
    /// No time zone of that name.
    #[error("{0:?} is not a time zone")]
    Zone(String),
}

impl Schedule {
    /// Reads a schedule in a time zone of the IANA's (`Europe/Berlin`), or in UTC.
    pub fn parse(text: &str, zone: Option<&str>) -> Result<Self, ScheduleError> {
        let zone_name = zone.unwrap_or("UTC").to_owned();
        let zone = match zone {
            None | Some("UTC") => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| ScheduleError::Zone(name.to_owned()))?,
        };
        let refused = |reason: String| ScheduleError::Cron { text: text.to_owned(), reason };
        if !text.starts_with('@') && text.split_whitespace().count() != 5 {
            return Err(refused(format!("it has {}", text.split_whitespace().count())));
        }
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| refused(error.to_string()))?;
        let schedule = Self { cron, text: text.to_owned(), zone, zone_name };
        schedule.next_after(SystemTime::UNIX_EPOCH).ok_or_else(|| ScheduleError::Never(text.to_owned()))?;
        Ok(schedule)
    }

    /// The first time after `time`.
    #[must_use]
    pub fn next_after(&self, time: SystemTime) -> Option<SystemTime> {
        let next = self.cron.find_next_occurrence(&self.zoned(time)?, false).ok()?;
        Some(next.timestamp().into())
    }

    /// The last time that is not after `time`.
    #[must_use]
    pub fn last_until(&self, time: SystemTime) -> Option<SystemTime> {
        let last = self.cron.find_previous_occurrence(&self.zoned(time)?, true).ok()?;
        Some(last.timestamp().into())
    }

    /// What it means, in English.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}, {}", self.cron.describe().trim_end_matches('.'), self.zone_name)
    }

    /// The time zone, in which the days of a run are counted as well.
    #[must_use]
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn zoned(&self, time: SystemTime) -> Option<Zoned> {
        Some(Timestamp::try_from(time).ok()?.to_zoned(self.zone.clone()))
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.text, self.zone_name)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        text.parse::<Timestamp>().unwrap().into()
    }

    fn text(time: SystemTime) -> String {
        Timestamp::try_from(time).unwrap().to_string()
    }

    fn schedule(text: &str, zone: Option<&str>) -> Schedule {
        Schedule::parse(text, zone).unwrap()
    }

    /// The times of a schedule from one moment to another, each found from the one before.
    fn times(schedule: &Schedule, from: &str, to: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut time = at(from);
        while let Some(next) = schedule.next_after(time).filter(|next| *next <= at(to)) {
            assert_eq!(schedule.last_until(next), Some(next), "{}", text(next));
            found.push(text(next));
            time = next;
        }
        found
    }

    #[test]
    fn a_year_of_sundays_has_fifty_two_of_them() {
        let sundays = schedule("0 2 * * 0", None);
        let times = times(&sundays, "2026-01-01T00:00:00Z", "2026-12-31T23:59:59Z");
        assert_eq!(times.len(), 52);
        assert_eq!((times[0].as_str(), times[51].as_str()), ("2026-01-04T02:00:00Z", "2026-12-27T02:00:00Z"));
    }

    #[test]
    fn an_hour_that_is_left_out_is_made_up_once_and_one_that_comes_twice_counts_once() {
        let night = schedule("30 2 * * *", Some("Europe/Berlin"));
        // 2026-03-29: the clock goes from 02:00 to 03:00.
        let spring = times(&night, "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
        assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        // 2026-10-25: 02:30 comes twice.
        let autumn = times(&night, "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
        assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    }

    #[test]
    fn leap_days_last_days_and_numbered_weekdays_are_known() {
        let leap = schedule("0 0 29 2 *", None);
        assert_eq!(
            times(&leap, "2026-01-01T00:00:00Z", "2033-01-01T00:00:00Z"),
            ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"]
        );
        let last = schedule("0 0 L * *", None);
        assert_eq!(text(last.next_after(at("2026-02-01T00:00:00Z")).unwrap()), "2026-02-28T00:00:00Z");
        let second_tuesday = schedule("0 6 * * 2#2", None);
        assert_eq!(text(second_tuesday.next_after(at("2026-11-01T00:00:00Z")).unwrap()), "2026-11-10T06:00:00Z");
        let weekly = schedule("@weekly", None);
        assert_eq!(text(weekly.next_after(at("2026-11-28T12:00:00Z")).unwrap()), "2026-11-29T00:00:00Z");
    }

    #[test]
    fn the_last_time_is_found_after_a_long_sleep() {
        let sundays = schedule("0 2 * * 0", None);
        assert_eq!(text(sundays.last_until(at("2026-11-28T12:00:00Z")).unwrap()), "2026-11-22T02:00:00Z");
        assert_eq!(text(sundays.last_until(at("2026-11-29T01:59:59Z")).unwrap()), "2026-11-22T02:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_reason() {
        let refused = |text, zone| Schedule::parse(text, zone).unwrap_err().to_string();
        assert!(refused("0 0 2 * * 0", None).contains("it has 6"));
        assert!(refused("", None).contains("it has 0"));
        assert!(refused("61 2 * * 0", None).contains("not a schedule"));
        assert!(refused("@sometimes", None).contains("not a schedule"));
        assert!(refused("0 0 31 2 *", None).contains("never comes"));
        assert!(refused("0 2 * * 0", Some("Mars/Olympus")).contains("not a time zone"));
    }
}
