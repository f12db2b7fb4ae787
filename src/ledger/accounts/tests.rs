use super::*;
use crate::domain::{Timestamp, VirtualKeyId, Zone};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

#[test]
fn a_scope_that_was_never_used_stands_at_nothing() {
    let accounts = Accounts::default();
    let scope = Scope::from(VirtualKeyId::generate());
    assert_eq!(
        accounts.standing(scope, SpendWindow::Daily, SpendWindow::Daily.index(at("2026-11-21"), Zone::UTC)),
        Standing { settled: NanoUsd::ZERO, reserved: NanoUsd::ZERO }
    );
    assert!(accounts.is_empty(), "looking must not make an account");
}

#[test]
fn what_the_database_says_is_taken_over_unless_a_newer_word_is_known() {
    let accounts = Accounts::default();
    let counter =
        Counter { scope: VirtualKeyId::generate().into(), window: SpendWindow::Total, index: WindowIndex(0) };
    let say = |settled, leased, granted| CounterState {
        counter,
        settled: NanoUsd::new(settled),
        leased: NanoUsd::new(leased),
        granted: NanoUsd::new(granted),
        wanted: false,
    };
    accounts.learn(&[say(9, 7, 5)]);
    accounts.learn(&[say(8, 1, 1)]);
    let standing = accounts.standing(counter.scope, counter.window, counter.index);
    assert_eq!((standing.settled.nano(), standing.reserved.nano()), (9, 2), "two are leased elsewhere");
    assert_eq!(accounts.leased_or_used_since(Instant::now()), [counter]);
}

#[test]
fn only_periods_that_nothing_hangs_on_are_forgotten_the_least_used_first() {
    let mut window = Window::default();
    window.period_mut(WindowIndex(0)).open = 1;
    window.period_mut(WindowIndex(-1)).unapplied = 1;
    window.period_mut(WindowIndex(-2)).granted = 1;
    for index in 1..=100 {
        window.period_mut(WindowIndex(index)).settled = index.into();
    }
    assert_eq!(window.0.len(), PERIODS);
    for (index, settled) in [(0, 0), (-1, 0), (-2, 0), (100, 100), (1, 0)] {
        assert_eq!(window.period_mut(WindowIndex(index)).settled, settled, "{index}");
    }
}
