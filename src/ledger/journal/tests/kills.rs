//! P-09: whatever the process was doing when it was killed, a start finds a state that the journal has gone through, and
//! no older one than it has answered for.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Open(usize),
    Again(usize, usize),
    Sent(usize),
    Progress(usize, usize),
    Close(usize, usize),
    Discard(usize),
    /// Applies so many of the closes that wait, oldest first.
    Apply(usize),
    Keep,
    Restart,
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..300).prop_map(Step::Open),
        1 => (any::<usize>(), 0_usize..300).prop_map(|(which, len)| Step::Again(which, len)),
        4 => any::<usize>().prop_map(Step::Sent),
        3 => (any::<usize>(), 0_usize..300).prop_map(|(which, len)| Step::Progress(which, len)),
        4 => (any::<usize>(), 1_usize..900).prop_map(|(which, len)| Step::Close(which, len)),
        1 => any::<usize>().prop_map(Step::Discard),
        2 => (1_usize..4).prop_map(Step::Apply),
        2 => Just(Step::Keep),
        1 => Just(Step::Restart),
    ]
}

/// The journal beside what it ought to say, and the database that applies its closes.
struct World<'a> {
    dir: &'a Path,
    faults: Faults,
    journal: Journal,
    tickets: Vec<Ticket>,
    now: State,
    /// What each record has made of it. Records that the journal writes for itself change nothing.
    history: BTreeMap<u64, State>,
    /// Nothing before this may be missing.
    answered: u64,
    applied: BTreeSet<u64>,
    watermark: u64,
    /// The next body's letter, so that no two are the same.
    letter: u8,
}

impl<'a> World<'a> {
    fn new(dir: &'a Path, faults: Faults) -> Option<Self> {
        let (journal, _) = try_open(dir, &faults, 0).ok()?;
        let history = BTreeMap::from([(0, State::default())]);
        Some(Self {
            dir,
            faults,
            journal,
            tickets: Vec::new(),
            now: State::default(),
            history,
            answered: 0,
            applied: BTreeSet::new(),
            watermark: 0,
            letter: 0,
        })
    }

    fn body(&mut self, len: usize) -> Vec<u8> {
        self.letter = self.letter.wrapping_add(1);
        vec![self.letter; len]
    }

    /// Does one step. `Err`: the process is dead.
    fn step(&mut self, step: &Step) -> Result<(), ()> {
        let tickets = self.tickets.len().max(1);
        let index = |which: usize| which % tickets;
        match *step {
            Step::Open(len) => {
                let body = self.body(len);
                let Ok(ticket) = self.journal.open_attempt(&body) else { return Err(()) };
                self.now.open.insert(ticket.number(), seen(&body));
                self.history.insert(ticket.number(), self.now.clone());
                self.tickets.push(ticket);
            }
            Step::Restart => return self.restart(),
            Step::Keep => {
                self.journal.keep_once();
                return if self.journal.stats().broken { Err(()) } else { Ok(()) };
            }
            Step::Apply(count) => {
                let seqs: Vec<u64> = self.now.closes.keys().copied().take(count).collect();
                // The database commits the watermark with them, then the journal hears of it.
                self.watermark = self.journal.watermark(&seqs);
                self.applied.extend(&seqs);
                self.journal.applied(&seqs);
                seqs.iter().for_each(|seq| drop(self.now.closes.remove(seq)));
            }
            _ if self.tickets.is_empty() => {}
            Step::Again(which, len) => {
                let at = index(which);
                let body = self.body(len);
                let before = self.next_seq();
                if self.journal.open_again(&self.tickets[at], &body).is_err() {
                    return Err(());
                }
                let request = self.request(at);
                let sent_before = request.sent || request.sent_before;
                *request = Seen { sent_before, ..seen(&body) };
                self.record(before);
            }
            Step::Sent(which) => {
                let at = index(which);
                let before = self.next_seq();
                let done = self.journal.sent(&self.tickets[at]);
                if self.next_seq() > before {
                    self.request(at).sent = true;
                    self.record(before);
                }
                self.answered = self.answered.max(done.map_err(|_| ())?);
            }
            Step::Progress(which, len) => {
                let at = index(which);
                let body = self.body(len);
                // Without room a progress waits for a carried record, which is no state of this small model.
                self.journal.reserve_segment().map_err(|_| ())?;
                let before = self.next_seq();
                self.journal.progress(&self.tickets[at], &body);
                assert_eq!(self.next_seq(), before + 1);
                self.request(at).progress = Some(body);
                self.record(before);
            }
            Step::Close(which, len) => {
                let body = self.body(len);
                let ticket = self.tickets.remove(index(which));
                let (key, before) = (ticket.number(), self.next_seq());
                let done = self.journal.close(ticket, &body);
                if self.next_seq() > before {
                    self.now.open.remove(&key);
                    self.now.closes.insert(before, body);
                    self.record(before);
                }
                self.answered = self.answered.max(done.map_err(|_| ())?);
            }
            Step::Discard(which) => {
                let ticket = self.tickets.remove(index(which));
                let (key, before) = (ticket.number(), self.next_seq());
                self.journal.discard(ticket);
                if self.next_seq() > before {
                    self.now.open.remove(&key);
                    self.record(before);
                }
            }
        }
        Ok(())
    }

    fn next_seq(&self) -> u64 {
        self.journal.next_seq()
    }

    fn request(&mut self, at: usize) -> &mut Seen {
        self.now.open.get_mut(&self.tickets[at].number()).expect("open")
    }

    fn record(&mut self, seq: u64) {
        self.history.insert(seq, self.now.clone());
    }

    /// Ends in order and starts again, under the same faults.
    fn restart(&mut self) -> Result<(), ()> {
        self.journal.shut_down().map_err(|_| ())?;
        // The next sequence is no measure of that: a start leaves out those that were cut and are known to the database.
        let written = self.history.keys().next_back().copied().unwrap_or_default();
        self.answered = self.answered.max(written);
        self.tickets.clear();
        let (journal, replay) = try_open(self.dir, &self.faults, self.watermark).map_err(|_| ())?;
        self.take(journal, replay);
        Ok(())
    }

    /// Checks what a start has found, and goes on from there.
    fn take(&mut self, journal: Journal, replay: Replay) {
        let last = replay.last_seq;
        let (found, tickets) = state(replay);
        assert!(last >= self.answered, "found up to {last}, answered for {}", self.answered);
        let (_, then) = self.history.range(..=last).next_back().expect("the beginning");
        assert_eq!(found.open, then.open, "open requests after record {last}");
        let unapplied = |state: &State| -> BTreeMap<u64, Vec<u8>> {
            let closes = state.closes.iter().filter(|(seq, _)| !self.applied.contains(seq));
            closes.map(|(seq, body)| (*seq, body.clone())).collect()
        };
        assert_eq!(unapplied(&found), unapplied(then), "closes that nobody has applied, after record {last}");
        assert!(found.closes.keys().all(|seq| *seq > self.watermark));
        self.now = State { closes: unapplied(then), ..then.clone() };
        self.history.retain(|seq, _| *seq <= last);
        self.answered = last;
        self.tickets = tickets;
        self.journal = journal;
    }

    /// The process is gone. Starts again and again, and is killed again before each effect of the start in turn.
    fn recover(&mut self) {
        self.faults.kill();
        let _ = self.journal.shut_down();
        self.tickets.clear();
        for last in 0.. {
            let (faults, _) =
                counted(move |index, _| if index == last { Fate::Kills } else { Fate::Happens });
            if let Ok((journal, replay)) = try_open(self.dir, &faults, self.watermark) {
                // Effects after the start are not what this is about.
                self.faults = faults;
                self.take(journal, replay);
                break;
            }
            assert!(last < 100, "a start has few effects");
        }
        self.faults.kill();
        let _ = self.journal.shut_down();
        self.tickets.clear();
        self.faults = mortal();
        let (journal, replay) = try_open(self.dir, &self.faults, self.watermark).expect("a journal");
        self.take(journal, replay);
    }
}

/// Runs `script` with `fate`; if that kills the process, recovers and runs the rest. Returns how many effects there were.
fn run(script: &[Step], fate: impl Fn(usize, &'static str) -> Fate + Send + Sync + 'static) -> usize {
    let dir = directory();
    let (faults, count) = counted(fate);
    let Some(mut world) = World::new(dir.path(), faults) else {
        let (journal, replay) = open(dir.path(), &mortal());
        assert_eq!(state(replay).0, State::default());
        drop(journal);
        return count.load(Ordering::SeqCst);
    };
    let mut left = script.iter();
    if left.by_ref().any(|step| world.step(step).is_err()) {
        world.recover();
        left.for_each(|step| world.step(step).expect("no faults any more"));
    }
    world.recover();
    count.load(Ordering::SeqCst)
}

/// Long enough for several segments, a carried request, a removal and a restart.
fn script() -> Vec<Step> {
    let mut script = vec![Step::Open(30), Step::Sent(0), Step::Progress(0, 40), Step::Open(10)];
    for round in 0..14 {
        script.extend([Step::Open(100), Step::Sent(2), Step::Progress(2, 60), Step::Close(2, 900)]);
        script.extend([Step::Apply(3), Step::Again(1, round)]);
        if round % 2 == 0 {
            script.extend([Step::Open(5), Step::Discard(2), Step::Keep]);
        }
        if round == 9 {
            script.push(Step::Restart);
        }
    }
    script
}

#[test]
fn p09_a_kill_before_any_effect_and_during_any_recovery_loses_nothing_answered_for() {
    let script = script();
    let effects = run(&script, |_, _| Fate::Happens);
    assert!(effects > 60, "{effects} effects");
    for last in 0..effects {
        run(&script, move |index, _| if index == last { Fate::Kills } else { Fate::Happens });
    }
}

#[test]
fn p09_a_write_torn_at_any_effect_loses_nothing_answered_for() {
    let script = script();
    let effects = run(&script, |_, _| Fate::Happens);
    for last in 0..effects {
        run(&script, move |index, what| match what {
            effect::WRITE if index == last => Fate::Tears(1 + index * 7 % 90),
            _ if index == last => Fate::Kills,
            _ => Fate::Happens,
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn p09_any_run_of_steps_survives_a_kill_anywhere(
        script in vec(steps(), 1..80),
        at in any::<prop::sample::Index>(),
        torn in prop::option::of(0_usize..2000),
    ) {
        let effects = run(&script, |_, _| Fate::Happens);
        let last = at.index(effects);
        run(&script, move |index, what| match torn {
            Some(bytes) if index == last && what == effect::WRITE => Fate::Tears(bytes),
            _ if index == last => Fate::Kills,
            _ => Fate::Happens,
        });
    }
}
