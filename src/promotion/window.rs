//! The hours in which commits may be made.

use std::time::{Duration, SystemTime};

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// Days and hours, in a time zone.
#[derive(Clone, Debug)]
pub struct Window {
    /// Which days of the week, Monday first.
    pub days: [bool; 7],
    /// From when; before `to`.
    pub from: Time,
    /// Until when.
    pub to: Time,
    /// Whose hours these are.
    pub zone: TimeZone,
}

impl Window {
    /// How long until it opens: nothing while it is open. `None` if it never does.
    #[must_use]
    pub fn opens_in(&self, now: SystemTime) -> Option<Duration> {
        let now = Zoned::new(Timestamp::try_from(now).ok()?, self.zone.clone());
        for day in 0..=7 {
            let date = now.date().checked_add(day.days()).ok()?;
            let index = usize::try_from(date.weekday().to_monday_zero_offset()).ok()?;
            if !self.days.get(index).copied().unwrap_or(false) {
                continue;
            }
            let at = |time| date.to_datetime(time).to_zoned(self.zone.clone()).ok();
            let (from, to) = (at(self.from)?, at(self.to)?);
            if now >= to {
                continue;
            }
            return Some(Duration::try_from(from.duration_since(&now)).unwrap_or_default());
        }
        None
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn opens(now: &str) -> Option<u64> {
        let window = Window {
            days: [true, true, true, true, true, false, false],
            from: Time::constant(9, 0, 0, 0),
            to: Time::constant(17, 0, 0, 0),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
        };
        let now: Timestamp = now.parse().unwrap();
        window.opens_in(now.into()).map(|wait| wait.as_secs())
    }

    #[test]
    fn it_is_open_on_its_days_in_its_hours() {
        assert_eq!(opens("2026-02-16T08:00:00Z"), Some(0), "Monday, 9:00 in Berlin");
        assert_eq!(opens("2026-02-16T07:59:30Z"), Some(30));
        assert_eq!(opens("2026-02-16T15:59:59Z"), Some(0));
        assert_eq!(opens("2026-02-16T16:00:00Z"), Some(16 * 3600), "the next morning");
        assert_eq!(opens("2026-02-21T10:00:00Z"), Some(46 * 3600), "from Saturday to Monday");
        assert_eq!(opens("2026-03-28T12:00:00Z"), Some(43 * 3600), "an hour is missing in that night");
    }

    #[test]
    fn one_without_days_never_opens() {
        let window = Window { days: [false; 7], from: Time::midnight(), to: Time::constant(1, 0, 0, 0), zone: TimeZone::UTC };
        assert_eq!(window.opens_in(SystemTime::UNIX_EPOCH), None);
    }
}
