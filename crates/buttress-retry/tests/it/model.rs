//! Whole calls against a model of a few lines: which attempts are made, when, and what is counted.

use std::time::Duration;

use buttress_core::{
    BoxError, Verdict, Word,
    context::{self, CallContext},
};
use buttress_kit::{Backoff, Budget, TokenBudgetConfig};
use buttress_retry::{Retry, words};
use buttress_test::{Recording, Script, step};
use proptest::{collection::vec, option, prelude::*};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt};

use crate::support::ms;

/// One attempt as it is scripted: how long it takes, and how it ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Good,
    Transient,
    Hint(u64),
    Permanent,
}

fn end() -> impl Strategy<Value = (u64, End)> {
    let end = prop_oneof![
        1 => Just(End::Good),
        6 => Just(End::Transient),
        2 => (0_u64..300).prop_map(End::Hint),
        1 => Just(End::Permanent),
    ];
    (0_u64..100, end)
}

#[derive(Debug, Clone)]
struct Case {
    attempts: u32,
    wait: u64,
    hint_max: u64,
    elapsed: Option<u64>,
    deadline: Option<u64>,
    budget: Option<u32>,
    script: Vec<(u64, End)>,
}

/// When each attempt begins, when the call ends, and why.
fn expected(case: &Case) -> (Vec<u64>, u64, Option<Word>) {
    let (mut now, mut begun, mut budget) = (0, Vec::new(), case.budget);
    let limit = case.elapsed.into_iter().chain(case.deadline).min();
    loop {
        let (takes, end) = case.script.get(begun.len()).copied().unwrap_or((0, End::Transient));
        begun.push(now);
        now += takes;
        let hint = match end {
            End::Good => return (begun, now, None),
            End::Permanent => return (begun, now, Some(words::NOT_RETRYABLE)),
            End::Transient => 0,
            End::Hint(hint) => hint,
        };
        if begun.len() as u32 == case.attempts {
            return (begun, now, Some(words::MAX_ATTEMPTS));
        }
        let wait = case.wait.max(hint);
        if hint > case.hint_max || limit.is_some_and(|limit| now + wait >= limit) {
            return (begun, now, Some(words::DEADLINE));
        }
        if let Some(left) = &mut budget {
            if *left == 0 {
                return (begun, now, Some(words::BUDGET));
            }
            *left -= 1;
        }
        now += wait;
    }
}

async fn run(case: &Case) {
    let recording = Recording::new();
    let mut retry = Retry::builder("model")
        .max_attempts(case.attempts)
        .backoff(Backoff::constant(ms(case.wait)))
        .max_elapsed(case.elapsed.map(ms))
        .retry_after_max(ms(case.hint_max))
        .observe(recording.clone());
    if let Some(left) = case.budget {
        let tokens = TokenBudgetConfig::default().with_capacity(left).with_prices(1, 1, 1);
        retry = retry.budget(Budget::tokens(tokens).unwrap());
    }
    let retry = retry.build().unwrap();
    let steps = case.script.iter().map(|(takes, end)| {
        let end = match end {
            End::Good => step::ok(0),
            End::Transient => step::err("transient"),
            End::Hint(hint) => step::err(format!("hint {hint}")),
            End::Permanent => step::err("permanent"),
        };
        step::delay(ms(*takes), end)
    });
    let probe = Script::<u64, BoxError>::new(steps).then(|| step::err("transient")).service::<u64>();
    let layer = retry.layer().classify_with(|outcome: Result<&u64, &BoxError>| {
        let Err(error) = outcome else { return Verdict::Success };
        let text = error.to_string();
        match text.strip_prefix("hint ") {
            Some(hint) => Verdict::retry_after(ms(hint.parse().unwrap())),
            None if text == "permanent" => Verdict::permanent(),
            None => Verdict::transient(),
        }
    });
    let start = Instant::now();
    let context = case.deadline.map_or(CallContext::default(), |left| {
        CallContext::default().until(start.checked_add(ms(left)).unwrap().into_std())
    });
    let mut svc = layer.layer(probe.clone());
    let answer = context::scope(context, async { svc.ready().await.unwrap().call(7).await }).await;

    let (begun, ended, why) = expected(case);
    let mut at = Duration::ZERO;
    let mut told = vec![Duration::ZERO];
    for ((n, delay), (takes, _)) in
        recording.attempts().iter().zip(case.script.iter().chain([&(0, End::Good); 20]))
    {
        assert_eq!(*n as usize, told.len());
        at += ms(*takes) + *delay;
        told.push(at);
    }
    assert_eq!(told, begun.iter().copied().map(ms).collect::<Vec<_>>());
    assert_eq!((probe.calls(), start.elapsed()), (begun.len(), ms(ended)));
    assert_eq!(answer.is_ok(), why.is_none());
    assert_eq!(recording.stops(), Vec::from_iter(why));
    assert_eq!(recording.outcomes().len(), 1);
    assert_eq!(retry.snapshot().retries, begun.len() as u64 - 1);
    assert_eq!(probe.taken_slots(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn calls_go_as_the_model_says(
        attempts in 1_u32..7, wait in 0_u64..200, hint_max in 0_u64..300,
        elapsed in option::of(1_u64..800), deadline in option::of(1_u64..800), budget in option::of(0_u32..4),
        script in vec(end(), 0..8),
    ) {
        let case = Case { attempts, wait, hint_max, elapsed, deadline, budget, script };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(run(&case));
    }
}
