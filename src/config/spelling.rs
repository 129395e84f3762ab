//! "Did you mean": the known word nearest to an unknown one.

/// The candidate that was probably meant by `word`, if one is near enough.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // One slip in three letters; what is further away is another word. A word far longer than any key is not compared.
    let limit = (word.chars().count() / 3).max(1);
    if word.len() > 100 {
        return None;
    }
    candidates
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed, replaced or swapped with their neighbour to get from one word to the other.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.to_lowercase().chars().collect();
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, other) in to.iter().enumerate() {
            let replaced = previous[column] + usize::from(letter != other);
            let mut best = replaced.min(previous[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *letter == to[column - 1] && from[row - 1] == *other {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let keys = ["listen", "external_url", "idle_timeout", "ca"];
        let nearest = |word| nearest(word, keys.iter().copied());
        assert_eq!(nearest("lisen"), Some("listen"));
        assert_eq!(nearest("Listen"), Some("listen"));
        assert_eq!(nearest("lsiten"), Some("listen"));
        assert_eq!(nearest("idle-timeout"), Some("idle_timeout"));
        assert_eq!(nearest("cache"), None);
        assert_eq!(nearest(""), None);
    }
}
