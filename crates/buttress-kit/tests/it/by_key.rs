//! A policy for each key, of a pattern that only admits or refuses.

// What `settings!` writes is public.
#![allow(unreachable_pub)]

use std::{
    collections::HashSet,
    future::{pending, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{
    BoxError, Code, ConfigError, FromRejection, KeyOf, KindData, Name, Note, Outcome, OwnedEvent, Rejection,
};
use buttress_kit::{
    Admits, ByKey, Emitter, Events, Handle, Keyed, Listeners, Live, PerKey, Prepared, Registry,
    call::{Begun, Ends, begin},
    handle::Patch,
};
use serde_json::json;
use tokio::time;
use tokio_test::{
    assert_pending, assert_ready,
    task::{Spawn, spawn},
};
use tower::{Layer, ServiceExt, service_fn};

static SEAT: KindData = KindData::new("seat").codes(&[TAKEN, FULL]);
const TAKEN: &Code = &Code::refused("SEAT_TAKEN");
const FULL: &Code = &Code::too_many("HOUSE_FULL");

buttress_kit::settings! {
    /// The settings of a bench.
    #[derive(Copy)]
    pub struct SeatConfig, builder SeatBuilder {
        /// How many may sit there.
        pub width: u32 = 1,
    }
}

impl SeatConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        Ok(())
    }
}

/// So many calls at once.
#[derive(Clone)]
struct Seat {
    taken: Arc<AtomicU32>,
    name: Name,
    all: Arc<(Emitter, Live<SeatConfig>)>,
}

impl Seat {
    fn new() -> Self {
        let emitter = Emitter::new(&SEAT, "house".into(), &Listeners::default());
        let settings = Live::new(SeatConfig::default(), emitter.clone());
        Self { taken: Arc::default(), name: emitter.name().clone(), all: Arc::new((emitter, settings)) }
    }

    fn by_key<K>(max_keys: usize) -> ByKey<K, Self> {
        let form = Keyed { max_keys, idle_for: Duration::from_secs(60) };
        ByKey::new(Self::new(), form).unwrap()
    }

    fn name(&self) -> &Name {
        self.all.0.name()
    }

    fn config(&self) -> SeatConfig {
        self.all.1.get()
    }

    fn snapshot(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    fn reset(&self) {
        self.clear();
        self.all.0.note(Note::new(Note::RESET));
    }

    fn events(&self) -> Events {
        self.all.0.events()
    }

    fn refuse(&self, code: &'static Code) -> Rejection {
        let why = Rejection::new(code, &self.name);
        self.all.0.refused(&why, false);
        why
    }
}

impl Admits for Seat {
    fn admit(&self) -> Result<Begun<()>, Rejection> {
        if self.taken.fetch_add(1, Relaxed) >= self.config().width {
            self.taken.fetch_sub(1, Relaxed);
            return Err(self.refuse(TAKEN));
        }
        Ok(begin(()))
    }
}

impl Ends for Seat {
    type Ticket = ();
    type End = Outcome;

    fn end(&self, (): &(), _: Outcome) {
        self.taken.fetch_sub(1, Relaxed);
    }
}

impl PerKey for Seat {
    fn of_key(&self, name: Name) -> Self {
        Self { taken: Arc::default(), name, all: self.all.clone() }
    }

    fn must_stay(&self) -> bool {
        Arc::strong_count(&self.taken) > 1
    }

    fn clear(&self) {}

    fn full(&self) -> Rejection {
        self.refuse(FULL)
    }
}

impl Handle for Seat {
    buttress_kit::handle_methods!(&SEAT);

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        self.all.1.prepare(patch, |_, _| (), || ())
    }
}

fn never() -> impl Future<Output = Result<(), BoxError>> {
    pending()
}

/// A call under way.
fn hold<F: Future<Output = Result<(), BoxError>>>(call: F) -> Spawn<F> {
    let mut call = spawn(call);
    assert_pending!(call.poll());
    call
}

/// Why a call is refused at once.
fn refused<F: Future<Output = Result<(), BoxError>>>(call: F) -> Rejection {
    assert_ready!(spawn(call).poll()).unwrap_err().rejection().unwrap().clone()
}

#[tokio::test]
async fn each_key_has_a_policy_of_its_own_and_dropping_a_call_gives_its_place_back() {
    let seats = Seat::by_key::<String>(10);
    assert!(seats.is_empty() && seats.get("a").is_none());
    let a = hold(seats.call("a", never));
    let _b = hold(seats.call("b", never));
    assert_eq!(refused(seats.call("a", never)).code(), TAKEN);
    assert_eq!((seats.len(), seats.get("a").unwrap().snapshot()), (2, 1));
    drop(a);
    seats.call("a", || ready(Ok::<_, BoxError>(()))).await.unwrap();
    assert_eq!(seats.get("a").unwrap().snapshot(), 0);
    assert_eq!(seats.remove("a").unwrap().snapshot(), 0);
    assert!(seats.remove("a").is_none() && seats.len() == 1);
    assert_eq!(format!("{seats:?}"), "ByKey { name: \"house\", keys: 1 }");
}

#[tokio::test]
async fn key_is_found_by_a_closure_in_the_request_or_by_a_strategy() {
    struct Request {
        tenant: String,
        port: u16,
    }

    #[derive(Clone)]
    struct Port;
    impl KeyOf<Request> for Port {
        type Key = u16;
        fn with_key<T>(&self, req: &Request, then: impl FnOnce(&u16) -> T) -> T {
            then(&req.port)
        }
    }

    let request = || Request { tenant: "acme".into(), port: 80 };
    let inner = || service_fn(|_: Request| never());
    let (by_name, by_port) = (Seat::by_key::<String>(10), Seat::by_key::<u16>(10));
    let _one = hold(by_name.layer_by(|req: &Request| req.tenant.clone()).layer(inner()).oneshot(request()));
    let again = by_name.layer_by_ref(|req: &Request| req.tenant.as_str()).layer(inner());
    assert_eq!(refused(again.oneshot(request())).code(), TAKEN);
    let _two = hold(by_port.layer_by_ref(|req: &Request| &req.port).layer(inner()).oneshot(request()));
    let again = by_port.layer_key(Port).layer(inner());
    assert_eq!(refused(again.oneshot(request())).code(), TAKEN);
    assert_eq!((by_name.len(), by_port.len()), (1, 1));
}

#[tokio::test]
async fn refusal_names_the_key_if_it_may_be_shown() {
    for (seats, key) in
        [(Seat::by_key::<String>(10), None), (Seat::by_key::<String>(10).show_keys(), Some("acme"))]
    {
        let _held = hold(seats.call("acme", never));
        let why = refused(seats.call("acme", never));
        assert_eq!((why.policy(), why.key()), ("house", key));
    }
}

#[tokio::test]
async fn flood_of_keys_is_refused_where_all_are_in_use_and_forgets_only_what_is_idle() {
    let seats = Seat::by_key::<u32>(3);
    let mut events = seats.events();
    let held: Vec<_> = (0..2).map(|key| hold(seats.call(&key, never))).collect();
    for key in 2..1_000 {
        seats.call(&key, || ready(Ok::<_, BoxError>(()))).await.unwrap();
        assert_eq!(seats.len(), 3);
    }
    assert_eq!([0, 1].map(|key| refused(seats.call(&key, never)).code()), [TAKEN; 2]);
    let kept = seats.get(&999).unwrap();
    assert_eq!(refused(seats.call(&1_000, never)).code(), FULL);
    drop((held, kept));
    let _now = hold(seats.call(&1_000, never));
    // Each refusal was told once, and by nobody but the one policy that observers know.
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| event.policy).collect();
    assert_eq!(told, [Name::new("house"), Name::new("house"), Name::new("house")]);
}

#[tokio::test(start_paused = true)]
async fn key_that_was_not_used_for_long_is_forgotten_when_others_come() {
    let seats = Seat::by_key::<&'static str>(10);
    let held = hold(seats.call(&"held", never));
    seats.call(&"idle", || ready(Ok::<_, BoxError>(()))).await.unwrap();
    for key in ["first", "second"] {
        time::advance(Duration::from_secs(61)).await;
        seats.call(&key, || ready(Ok::<_, BoxError>(()))).await.unwrap();
    }
    assert!(seats.get(&"idle").is_none() && seats.get(&"held").is_some());
    drop(held);
}

#[tokio::test]
async fn as_a_handle_it_is_one_policy_with_the_settings_of_all_keys() {
    let (registry, seats) = (Registry::new(), Seat::by_key::<String>(10));
    registry.insert(seats.clone()).unwrap();
    let mut events = registry.events();
    let _held = hold(seats.call("a", never));
    assert_eq!(refused(seats.call("a", never)).code(), TAKEN);
    assert_eq!(registry.apply(json!({ "seat": { "house": { "width": 2 } } })).unwrap().changed, 1);
    let _second = hold(seats.call("a", never));
    let _other = hold(seats.call("b", never));
    let snapshot = serde_json::to_value(registry.snapshot()).unwrap();
    assert_eq!(snapshot, json!({ "seat": { "house": { "keys": 2 } } }));
    let [policy] = &registry.list()[..] else { panic!("{registry:?}") };
    assert_eq!(serde_json::to_value(policy.config_data()).unwrap(), json!({ "width": 2 }));
    assert_eq!((policy.kind(), policy.name().as_str()), (&SEAT, "house"));
    registry.reset_all();
    let told: Vec<_> = std::iter::from_fn(|| events.try_next()).map(|event| event.what).collect();
    assert_eq!(told.len(), 2);
    assert_eq!(told[1], OwnedEvent::Note(Note::new(Note::RESET)));
    assert!(registry.get::<ByKey<String, Seat>>("house").is_some());
}

#[test]
fn settings_of_keys_are_checked() {
    let form = Keyed { max_keys: 0, ..Keyed::default() };
    let why = ByKey::<u32, _>::new(Seat::new(), form).unwrap_err();
    assert_eq!((why.field(), why.policy()), ("max_keys", Some("seat \"house\"")));
}

// Between being found and being let in a policy must not go: a call on the next one would not count with it.
#[test]
fn threads_that_fight_for_room_never_see_two_policies_of_one_key_in_use() {
    let seats = Seat::by_key::<u32>(2);
    let in_use = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (seats, in_use) = (&seats, &in_use);
            scope.spawn(move || {
                for n in 0..2_000 {
                    let key = (n * 7 + thread * 3) % 5;
                    let call = seats.call(&key, || {
                        assert!(in_use.lock().unwrap().insert(key), "two at once");
                        async {
                            in_use.lock().unwrap().remove(&key);
                            Ok::<_, BoxError>(())
                        }
                    });
                    drop(tokio_test::block_on(call));
                }
            });
        }
    });
    assert!(seats.len() <= 2 && in_use.into_inner().unwrap().is_empty());
}
