//! Applications: each asks, reads, now and then leaves in the middle, and asks again whatever happened.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    dice::Dice,
    gateway::Door,
    http::{Answer, Connection, End},
    keys::{Key, Keys},
    plan::Plan,
    wire,
};

/// How long one answer may take: a gateway may be stopped for two seconds, or drain.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between a connection that failed and the next one, so that a dead gateway is not hammered.
const BREATH: Duration = Duration::from_millis(2);

/// An answer whose client saw its end.
pub struct Finished {
    /// Which request.
    pub n: u64,
    /// With which key.
    pub key: String,
    /// What its header says that it cost, in nano-USD; streams have none.
    pub cost: Option<u64>,
}

/// What clients saw.
#[derive(Default)]
pub struct Seen {
    /// Answers that were read to their end.
    pub finished: Vec<Finished>,
    /// Requests that were answered with an error of the gateway's, and its status.
    pub refused: Vec<(u64, u16)>,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Answers that broke off.
    pub broken: u64,
    /// Streams that the client left.
    pub left: u64,
    /// Requests without any answer.
    pub unanswered: u64,
}

/// What all clients share.
pub struct Clients {
    /// What plans are drawn from.
    pub seed: u64,
    /// The gateways.
    pub doors: Vec<Door>,
    /// What to ask with.
    pub keys: Keys,
    /// Ends the load.
    pub stop: CancellationToken,
    /// How many requests were begun.
    pub sent: AtomicU64,
    /// What came of them.
    pub seen: Mutex<Seen>,
}

impl Clients {
    /// Asks until the load ends; the last answer is waited for.
    pub async fn run(self: Arc<Self>, number: u64) {
        let mut dice = Dice::new(self.seed, 0xc11e ^ (number << 32));
        let mut kept: Option<(usize, Connection)> = None;
        while !self.stop.is_cancelled() {
            let Some(place) = self.open_door(&mut dice).await else { continue };
            let key = self.keys.any(&mut dice);
            if self.ask(place, &mut kept, &key).await.is_none() {
                tokio::time::sleep(BREATH).await;
            }
        }
    }

    /// Asks every gateway until it answers: one that shares its database hears of prices and keys a little later.
    ///
    /// # Errors
    /// One never answers.
    pub async fn warm_up(&self) -> Result<(), String> {
        for place in 0..self.doors.len() {
            let (key, until) = (self.keys.capped(), Instant::now() + PATIENCE);
            while self.ask(place, &mut None, &key).await != Some(200) {
                if Instant::now() > until {
                    return Err("a gateway does not answer, although prices and keys are set".to_owned());
                }
                tokio::time::sleep(BREATH).await;
            }
        }
        Ok(())
    }

    /// Asks once; the connection is kept for the next time if it can be used again. Answers the status, if one came.
    async fn ask(&self, place: usize, kept: &mut Option<(usize, Connection)>, key: &Key) -> Option<u16> {
        let mut connection = match kept.take() {
            Some((at, connection)) if at == place => connection,
            _ => Connection::open(self.doors[place].data).await.ok()?,
        };
        let plan = Plan::of(self.seed, self.sent.fetch_add(1, Ordering::Relaxed) + 1);
        let head = format!("authorization: Bearer {}\r\nx-keystile-tags: n={}\r\n", key.secret, plan.n);
        let question = plan.question();
        let asked = connection.ask("POST", "/v1/chat/completions", &head, &question, plan.hang_up_after);
        let answer = tokio::time::timeout(PATIENCE, asked).await.ok().and_then(Result::ok);
        let status = answer.as_ref().map(|answer| answer.status);
        if status == Some(402) {
            self.keys.refused(key);
        }
        if answer.as_ref().is_some_and(|answer| answer.end == End::Whole) {
            *kept = Some((place, connection));
        }
        self.note(&plan, key.id.clone(), answer);
        status
    }

    /// One of the gateways that are there; waits for one if none is.
    async fn open_door(&self, dice: &mut Dice) -> Option<usize> {
        let open: Vec<usize> =
            (0..self.doors.len()).filter(|place| *self.doors[*place].open.borrow()).collect();
        if !open.is_empty() {
            return Some(open[dice.place(open.len())]);
        }
        let place = dice.place(self.doors.len());
        let mut door = self.doors[place].open.clone();
        let opens = door.wait_for(|open| *open);
        tokio::select! {
            opened = opens => opened.is_ok().then_some(place),
            () = self.stop.cancelled() => None,
        }
    }

    fn note(&self, plan: &Plan, key: String, answer: Option<Answer>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answer) = answer else {
            seen.unanswered += 1;
            return;
        };
        *seen.statuses.entry(answer.status).or_default() += 1;
        if answer.status != 200 {
            seen.refused.push((plan.n, answer.status));
            return;
        }
        match answer.end {
            End::Broken => seen.broken += 1,
            End::Left => seen.left += 1,
            End::Whole => {}
        }
        // `[DONE]` is the end of a stream, whatever becomes of the connection after it.
        let ended = match plan.stream {
            true => wire::find(&answer.body, b"data: [DONE]\n\n").is_some(),
            false => answer.end == End::Whole,
        };
        if ended {
            let cost = answer.header("x-keystile-cost-micro-usd").and_then(nano);
            seen.finished.push(Finished { n: plan.n, key, cost });
        }
    }
}

/// Micro-USD with up to three decimals, as nano-USD.
pub fn nano(text: &str) -> Option<u64> {
    let micro: f64 = text.parse().ok()?;
    Some((micro * 1_000.0).round() as u64)
}
