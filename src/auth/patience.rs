//! Whoever guesses passwords waits longer each time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use telemetry::Clock;

/// Wrong passwords that cost nothing.
const FREE: u32 = 5;
/// The wait after the first that costs, doubled each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);
/// Accounts and addresses that are remembered; beyond that the ones that were quiet longest are forgotten.
const REMEMBERED: u64 = 100_000;
/// Failures of one address with all its accounts, before it waits whatever it asks for.
const FREE_OF_ADDRESS: u32 = 50;

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// Not before this many milliseconds since 1970.
    until: u128,
}

/// What is remembered of wrong passwords, by account and address: nobody locks another out.
#[derive(Clone)]
pub(crate) struct Patience {
    failures: Cache<(IpAddr, String), Failures>,
    clock: Arc<dyn Clock>,
}

/// Whoever has one address of IPv6 has all of its network.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::from(std::net::Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

fn pause(count: u32, free: u32) -> Duration {
    let over = count.saturating_sub(free);
    if over == 0 { Duration::ZERO } else { FIRST.saturating_mul(1 << (over - 1).min(16)).min(LONGEST) }
}

impl Patience {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let failures = Cache::builder().max_capacity(REMEMBERED).time_to_live(LONGEST * 4).build();
        Self { failures, clock }
    }

    fn now(&self) -> u128 {
        self.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis()
    }

    /// How long this account at this address has to wait before it is looked at.
    pub(crate) fn wait(&self, address: IpAddr, account: &str) -> Option<Duration> {
        let (now, address) = (self.now(), network(address));
        let keys = [(address, account.to_owned()), (address, String::new())];
        let until = keys.iter().filter_map(|key| self.failures.get(key)).map(|failures| failures.until).max()?;
        let left = until.checked_sub(now).filter(|left| *left > 0)?;
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(u64::MAX)))
    }

    /// How long this address has to wait before anything of it is looked at.
    pub(crate) fn wait_at(&self, address: IpAddr) -> Option<Duration> {
        self.wait(address, "")
    }

    /// A password was wrong.
    pub(crate) fn failed(&self, address: IpAddr, account: &str) {
        let address = network(address);
        self.count((address, account.to_owned()), FREE);
        self.failed_at(address);
    }

    /// Something was wrong that names no account.
    pub(crate) fn failed_at(&self, address: IpAddr) {
        self.count((address, String::new()), FREE_OF_ADDRESS);
    }

    fn count(&self, key: (IpAddr, String), free: u32) {
        let count = self.failures.get(&key).map_or(0, |failures| failures.count).saturating_add(1);
        let until = self.now() + pause(count, free).as_millis();
        self.failures.insert(key, Failures { count, until });
    }

    /// It was right.
    pub(crate) fn succeeded(&self, address: IpAddr, account: &str) {
        self.failures.invalidate(&(network(address), account.to_owned()));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::net::Ipv4Addr;

    use telemetry::SystemClock;

    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        assert_eq!(pause(FREE, FREE), Duration::ZERO);
        assert_eq!((pause(FREE + 1, FREE), pause(FREE + 3, FREE)), (FIRST, FIRST * 4));
        assert_eq!(pause(u32::MAX, FREE), LONGEST);
    }

    #[test]
    fn a_network_of_ipv6_is_one_guesser() {
        let addresses: [IpAddr; 3] =
            ["2001:db8:1:2::5", "2001:db8:1:2:ffff::9", "2001:db8:1:3::5"].map(|text| text.parse().unwrap());
        let [one, same, other] = addresses.map(network);
        assert!(one == same && one != other);
        assert_eq!(network("::ffff:10.0.0.1".parse().unwrap()), IpAddr::from([10, 0, 0, 1]));
    }

    #[test]
    fn a_guesser_waits_and_nobody_else_does() {
        let patience = Patience::new(Arc::new(SystemClock::default()));
        let [one, other] = [1, 2].map(|last| IpAddr::from(Ipv4Addr::new(127, 0, 0, last)));
        for _ in 0..FREE {
            patience.failed(one, "alice");
        }
        assert_eq!(patience.wait(one, "alice"), None);
        patience.failed(one, "alice");
        assert!(patience.wait(one, "alice").is_some());
        assert_eq!((patience.wait(one, "bob"), patience.wait(other, "alice")), (None, None));
        patience.succeeded(one, "alice");
        assert_eq!(patience.wait(one, "alice"), None);
        for account in 0..=FREE_OF_ADDRESS {
            patience.failed(one, &account.to_string());
        }
        assert!(patience.wait(one, "carol").is_some() && patience.wait(other, "carol").is_none());
    }

    #[test]
    fn what_names_no_account_counts_for_the_address() {
        let patience = Patience::new(Arc::new(SystemClock::default()));
        let one = IpAddr::from(Ipv4Addr::LOCALHOST);
        for _ in 0..FREE_OF_ADDRESS {
            patience.failed_at(one);
        }
        assert_eq!(patience.wait_at(one), None);
        patience.failed_at(one);
        assert!(patience.wait_at(one).is_some() && patience.wait(one, "alice").is_some());
    }
}
