//! Policies of all patterns in one registry.

// What `settings!` writes is public.
#![allow(unreachable_pub)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::Duration,
};

use buttress_core::{ConfigError, Kind, KindData, Name, Note, OwnedEvent, PolicyEvent};
use buttress_kit::{
    Emitter, Events, Handle, Health, Live, One, Prepared, Registry,
    handle::{Data, Patch},
};
use serde_json::json;
use tokio_test::{assert_pending, assert_ready, task};

buttress_kit::settings! {
    /// The settings of a gate.
    pub struct GateConfig, builder GateBuilder {
        /// The most that pass at once.
        pub width: u32 = 3,
        /// How long it stays open.
        #[serde(with = "buttress_kit::duration")]
        pub open_for: Duration = Duration::from_secs(5),
        /// What it opens for.
        pub opens_for: OpensFor = OpensFor::All,
        /// Who stands beside it.
        pub guards: Option<Vec<String>> = None,
    }
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
enum OpensFor {
    All,
    Taller(u32),
    Between { from: f64, to: f64 },
}

impl GateConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        match self.width {
            0 => Err(ConfigError::new("width", 0, "must be at least 1")),
            _ => Ok(()),
        }
    }
}

static GATE: KindData = KindData::new("gate");
static DOOR: KindData = KindData::new("door");

#[derive(Clone)]
struct Gate(Arc<Inner>);

struct Inner {
    emitter: Emitter,
    settings: Live<GateConfig>,
    resets: AtomicU32,
    shut: AtomicBool,
    /// Whose settings were held, in order.
    held: Mutex<Option<mpsc::Sender<String>>>,
    /// What is done before somebody subscribes.
    followed: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

impl Gate {
    fn of(builder: GateBuilder, kind: Kind) -> Result<Self, ConfigError> {
        let (config, emitter) = builder.parts.checked(kind)?;
        Ok(Self(Arc::new(Inner {
            settings: Live::new(config, emitter.clone()),
            emitter,
            resets: AtomicU32::new(0),
            shut: AtomicBool::new(false),
            held: Mutex::new(None),
            followed: Mutex::new(None),
        })))
    }

    fn builder(name: impl Into<Name>) -> GateBuilder {
        GateBuilder::<One>::new(name)
    }

    fn new(name: impl Into<Name>) -> Self {
        Self::of(Self::builder(name), &GATE).unwrap()
    }

    fn config(&self) -> GateConfig {
        self.0.settings.get()
    }

    fn update(&self, change: impl FnOnce(&mut GateConfig)) -> Result<(), ConfigError> {
        self.0.settings.change(change, |_, _| ())
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Handle for Gate {
    fn pattern() -> Kind {
        &GATE
    }

    fn kind(&self) -> Kind {
        self.0.emitter.kind()
    }

    fn name(&self) -> &Name {
        self.0.emitter.name()
    }

    fn snapshot_data(&self) -> Data<'_> {
        Box::new(json!({ "resets": self.0.resets.load(SeqCst) }))
    }

    fn config_data(&self) -> Data<'_> {
        Box::new(self.config())
    }

    fn health(&self) -> Health {
        if self.0.shut.load(SeqCst) { Health::Down } else { Health::Up }
    }

    fn reset(&self) {
        self.0.resets.fetch_add(1, SeqCst);
    }

    fn events(&self) -> Events {
        if let Some(followed) = &mut *self.0.followed.lock().unwrap() {
            followed();
        }
        self.0.emitter.events()
    }

    fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
        let prepared = self.0.settings.prepare(patch, |_, _| (), || ())?;
        Ok(Prepared::new(|| {
            if let Some(held) = &*self.0.held.lock().unwrap() {
                held.send(self.name().to_string()).unwrap();
            }
            prepared.hold()
        }))
    }
}

/// A handle of another type: the form with keys of a gate, or a door.
macro_rules! also {
    ($Type:ident, $kind:expr) => {
        #[derive(Clone)]
        struct $Type(Gate);

        impl Handle for $Type {
            fn pattern() -> Kind {
                $kind
            }
            fn kind(&self) -> Kind {
                self.0.kind()
            }
            fn name(&self) -> &Name {
                self.0.name()
            }
            fn snapshot_data(&self) -> Data<'_> {
                self.0.snapshot_data()
            }
            fn config_data(&self) -> Data<'_> {
                self.0.config_data()
            }
            fn reset(&self) {
                self.0.reset();
            }
            fn events(&self) -> Events {
                self.0.events()
            }
            fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
                self.0.prepare(patch)
            }
        }
    };
}
also!(KeyedGate, &GATE);
also!(Door, &DOOR);

fn door(name: &str) -> Door {
    Door(Gate::of(Gate::builder(name), &DOOR).unwrap())
}

/// Fails if `work` takes for ever.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, watchdog) = mpsc::channel();
    thread::spawn(move || done.send(work()));
    watchdog.recv_timeout(Duration::from_secs(30)).expect("it ended")
}

fn names(registry: &Registry) -> Vec<String> {
    registry.list().iter().map(|one| format!("{} {}", one.kind().name, one.name())).collect()
}

#[test]
fn policies_are_found_by_type_and_name_listed_in_order_and_taken_out() {
    let registry = Registry::new();
    assert!(registry.is_empty() && registry.get::<Gate>("north").is_none());
    let north = Gate::new("north");
    registry.insert(north.clone()).unwrap();
    registry.insert(Gate::new("east")).unwrap();
    registry.insert(door("north")).unwrap();
    assert!(registry.get::<Gate>("north").unwrap().is(&north));
    assert_eq!(registry.get::<Door>("north").unwrap().kind(), &DOOR);
    assert_eq!(names(&registry), ["door north", "gate east", "gate north"]);
    assert_eq!(registry.list_of::<Gate>().len(), 2);
    assert_eq!(format!("{registry:?}"), r#"[("door", "north"), ("gate", "east"), ("gate", "north")]"#);
    let clone = registry.clone();
    assert!(clone.remove::<Gate>("north").unwrap().is(&north));
    assert!(registry.remove::<Gate>("north").is_none() && registry.get::<Gate>("north").is_none());
    assert_eq!(registry.len(), 2);
    registry.clear();
    assert!(registry.is_empty());
}

#[test]
fn kind_and_name_are_one_place_whatever_the_form() {
    let registry = Registry::new();
    let plain = Gate::new("north");
    registry.insert(plain.clone()).unwrap();
    let why = registry.insert(KeyedGate(Gate::new("north"))).unwrap_err();
    assert_eq!(
        why.to_string(),
        "gate \"north\": `name` = \"north\" cannot work: \
         the registry has another one of this kind and name; one by key counts as the same kind"
    );
    let why = registry.get_or_create("north", |name| Ok(KeyedGate(Gate::new(name)))).err().unwrap();
    assert_eq!((why.policy(), why.field()), (Some("gate \"north\""), "name"));
    registry.insert(Gate::new("north")).unwrap_err();
    assert!(registry.get::<KeyedGate>("north").is_none() && registry.remove::<KeyedGate>("north").is_none());
    assert!(registry.get::<Gate>("north").unwrap().is(&plain));
    registry.remove::<Gate>("north").unwrap();
    registry.insert(KeyedGate(Gate::new("north"))).unwrap();
    assert!(registry.get::<KeyedGate>("north").is_some() && registry.get::<Gate>("north").is_none());
}

#[test]
fn of_many_who_ask_at_once_one_makes_the_policy() {
    let (registry, made) = (Registry::new(), AtomicU32::new(0));
    for round in 0..50 {
        let (name, start) = (format!("gate {round}"), Barrier::new(8));
        let ask = || {
            start.wait();
            let make = |name| {
                made.fetch_add(1, SeqCst);
                thread::yield_now();
                Ok(Gate::new(name))
            };
            registry.get_or_create(&*name, make).unwrap()
        };
        let asked: Vec<_> = thread::scope(|scope| {
            let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
            asking.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(asked.iter().all(|one| one.is(&asked[0])));
        assert!(registry.get::<Gate>(&name).unwrap().is(&asked[0]));
    }
    assert_eq!(made.load(SeqCst), 50);
}

// A caller whose settings were refused once took the place away from the others, who had been waiting for it.
#[test]
fn policy_that_was_given_out_is_in_the_registry_though_others_ask_with_bad_settings() {
    let registry = Registry::new();
    let start = Barrier::new(3);
    let refused = AtomicU32::new(0);
    let ask = |width| {
        let (registry, start, refused) = (&registry, &start, &refused);
        move || {
            for round in 0..2_000 {
                start.wait();
                let name = format!("gate {}", round % 50);
                let make = |name| Gate::of(Gate::builder(name).width(width), &GATE);
                match registry.get_or_create(&*name, make) {
                    Ok(gate) => assert!(registry.get::<Gate>(&name).unwrap().is(&gate)),
                    Err(why) => {
                        assert_eq!((why.field(), width), ("width", 0));
                        refused.fetch_add(1, SeqCst);
                    }
                }
                if start.wait().is_leader() {
                    assert_eq!(registry.list_of::<Gate>().len(), 1);
                    registry.clear();
                }
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(ask(0));
        scope.spawn(ask(1));
        scope.spawn(ask(2));
    });
    assert!(refused.load(SeqCst) > 0);
}

#[test]
fn those_who_wait_try_with_their_own_settings_if_those_of_the_first_cannot_work() {
    in_time(|| {
        let registry = Registry::with_max_names(1);
        for panics in [false, true] {
            let (begun, begins) = mpsc::channel();
            thread::scope(|scope| {
                let first = scope.spawn(|| {
                    registry.get_or_create("north", |name| {
                        begun.send(()).unwrap();
                        // Long enough for the other one to wait.
                        thread::park_timeout(Duration::from_millis(20));
                        assert!(!panics, "the settings panic");
                        Gate::of(Gate::builder(name).width(0), &GATE)
                    })
                });
                begins.recv().unwrap();
                let second = registry.get_or_create("north", |name| Ok(Gate::new(name))).unwrap();
                assert!(registry.get::<Gate>("north").unwrap().is(&second));
                match first.join() {
                    Ok(refused) => assert_eq!((refused.err().unwrap().field(), panics), ("width", false)),
                    Err(_) => assert!(panics),
                }
            });
            registry.clear();
        }
    });
}

#[test]
fn settings_that_panic_or_cannot_work_leave_no_name_behind() {
    let registry = Registry::with_max_names(1);
    let panics = || registry.get_or_create("north", |_| -> Result<Gate, _> { panic!("settings") }).is_ok();
    catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    let narrow = |name| Gate::of(Gate::builder(name).width(0), &GATE);
    assert_eq!(registry.get_or_create("north", narrow).err().unwrap().field(), "width");
    let other = |_| Ok(Gate::new("south"));
    let why = registry.get_or_create("north", other).err().unwrap().to_string();
    assert_eq!(
        why,
        "gate \"north\": `name` = \"south\" cannot work: must be the name that was asked for, which is \"north\""
    );
    assert!(registry.is_empty());
    registry.get_or_create("east", |name| Ok(Gate::new(name))).unwrap();
}

#[test]
fn number_of_names_is_bounded_and_those_put_in_by_hand_are_beyond_that() {
    let registry = Registry::default();
    for n in 0..10_000 {
        registry.get_or_create(format!("user {n}"), |name| Ok(Gate::new(name))).unwrap();
    }
    let refused = registry.get_or_create("one more", |_| -> Result<Gate, _> { unreachable!() });
    let why = refused.err().unwrap();
    assert_eq!((why.field(), why.value()), ("max_names", "10000"));
    registry.get_or_create("user 0", |_| -> Result<Gate, _> { unreachable!() }).unwrap();
    registry.insert(Gate::new("by hand")).unwrap();
    assert_eq!(registry.len(), 10_001);
    let none = Registry::with_max_names(0);
    assert!(none.get_or_create("a", |name| Ok(Gate::new(name))).is_err());
}

// The settings of one may depend on the others, and a page that lists them must not wait for those being made.
#[test]
fn settings_may_use_the_registry_and_nobody_who_looks_waits_for_them() {
    let len = in_time(|| {
        let registry = Registry::new();
        registry.insert(Gate::of(Gate::builder("first").width(7), &GATE).unwrap()).unwrap();
        let second = registry.get_or_create("second", |name| {
            assert!(registry.get::<Gate>("second").is_none() && registry.remove::<Gate>("second").is_none());
            assert_eq!((registry.len(), registry.health().each.len()), (1, 1));
            registry.reset_all();
            registry.clear();
            registry.insert(Gate::new("third")).unwrap();
            Gate::of(Gate::builder(name).width(7), &GATE)
        });
        assert!(registry.get::<Gate>("second").unwrap().is(&second.unwrap()));
        registry.len()
    });
    assert_eq!(len, 2);
}

#[test]
fn policy_that_is_made_from_itself_is_refused_and_nobody_waits_for_ever() {
    in_time(|| {
        let registry = Registry::new();
        let again = |_| registry.get_or_create("a", |name| Ok(Gate::new(name)));
        let why = registry.get_or_create("a", again).err().unwrap();
        assert_eq!((why.field(), why.policy()), ("name", Some("gate \"a\"")));
        // Two threads, each of which needs what the other one makes.
        let both = Barrier::new(2);
        let ask = |mine: &'static str, others: &'static str| {
            let (registry, both) = (&registry, &both);
            move || {
                registry.get_or_create(mine, |name| {
                    both.wait();
                    let other = registry.get_or_create(others, |name| Ok(Gate::new(name)));
                    other.map(|_| Gate::new(name))
                })
            }
        };
        let made = thread::scope(|scope| {
            let asking = [scope.spawn(ask("a", "b")), scope.spawn(ask("b", "a"))];
            asking.map(|one| one.join().unwrap())
        });
        // One of them finds the circle; the other one then makes what it needs itself.
        assert_eq!(made.iter().filter(|one| one.is_ok()).count(), 1);
        assert_eq!(registry.len(), 2);
    });
}

/// What a policy does as it is copied and as it goes.
struct Nosy(Registry);

impl Clone for Nosy {
    fn clone(&self) -> Self {
        self.0.len();
        Self(self.0.clone())
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.0.len();
    }
}

also!(Plain, &DOOR);

#[test]
fn code_of_others_runs_with_nothing_locked() {
    #[derive(Clone)]
    struct Curious(Plain, Nosy);
    impl Handle for Curious {
        fn pattern() -> Kind {
            &DOOR
        }
        fn kind(&self) -> Kind {
            self.1.0.len();
            self.0.kind()
        }
        fn name(&self) -> &Name {
            self.1.0.len();
            self.0.name()
        }
        fn snapshot_data(&self) -> Data<'_> {
            self.1.0.len();
            self.0.snapshot_data()
        }
        fn config_data(&self) -> Data<'_> {
            self.0.config_data()
        }
        fn health(&self) -> Health {
            self.1.0.len();
            Health::Degraded
        }
        fn reset(&self) {
            self.1.0.len();
        }
        fn events(&self) -> Events {
            self.1.0.len();
            self.0.events()
        }
        fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
            self.1.0.len();
            self.0.prepare(patch)
        }
    }
    in_time(|| {
        let registry = Registry::new();
        let curious = |name: &Name| {
            Curious(Plain(Gate::of(Gate::builder(name), &DOOR).unwrap()), Nosy(registry.clone()))
        };
        registry.insert(curious(&"a".into())).unwrap();
        registry.insert(curious(&"a".into())).unwrap_err();
        drop(registry.get_or_create("b", |name| Ok(curious(&name))).unwrap());
        drop(registry.get_or_create("b", |name| Ok(curious(&name))).unwrap());
        drop(registry.get::<Curious>("a"));
        registry.reset_all();
        assert_eq!(registry.health().worst, Health::Degraded);
        serde_json::to_value(registry.snapshot()).unwrap();
        assert_eq!(registry.apply(json!({ "door": { "a": { "width": 9 } } })).unwrap().changed, 1);
        assert_eq!(format!("{registry:?}").len(), 30);
        drop(registry.list_of::<Curious>());
        drop(registry.remove::<Curious>("a"));
        registry.clear();
        assert!(registry.is_empty());
    });
}

#[test]
fn patch_changes_the_settings_it_names_of_the_policies_it_names_in_any_format() {
    let registry = Registry::new();
    let (north, east) = (Gate::new("north"), Gate::new("east"));
    registry.insert(north.clone()).unwrap();
    registry.insert(east.clone()).unwrap();
    registry.insert(door("front")).unwrap();
    let text = r#"
        [gate.north]
        width = 9
        open_for = "250ms"
        opens_for = { taller = 190 }
        guards = ["a", "b"]
        [door.front]
        opens_for = { between = { from = 1, to = 2.5 } }
        [door.back]
        width = 0
        [window.front]
    "#;
    let patched = registry.apply(toml::Deserializer::parse(text).unwrap()).unwrap();
    assert_eq!((patched.changed, patched.unknown), (2, vec!["door.back".into(), "window.front".into()]));
    let config = north.config();
    assert_eq!((config.width, config.open_for), (9, Duration::from_millis(250)));
    assert_eq!(
        (config.opens_for, config.guards),
        (OpensFor::Taller(190), Some(vec!["a".into(), "b".into()]))
    );
    let front = registry.get::<Door>("front").unwrap().0.config();
    assert_eq!((front.width, front.opens_for), (3, OpensFor::Between { from: 1.0, to: 2.5 }));
    assert_eq!(east.config(), GateConfig::default());
    // What is written is read again.
    let written =
        json!({ "gate": { "east": north.config(), "north": { "guards": null, "opens_for": "all" } } });
    assert_eq!(registry.apply(&written).unwrap().changed, 2);
    assert_eq!((east.config().open_for, east.config().width), (Duration::from_millis(250), 9));
    assert_eq!((north.config().guards, north.config().opens_for), (None, OpensFor::All));
}

#[test]
fn patch_with_one_setting_that_cannot_work_changes_nothing() {
    let registry = Registry::new();
    for name in ["a", "b", "c"] {
        registry.insert(Gate::new(name)).unwrap();
    }
    let all_as_before =
        || registry.list_of::<Gate>().iter().all(|gate| gate.config() == GateConfig::default());
    for (patch, why) in [
        (
            json!({ "gate": { "a": { "width": 9 }, "b": { "width": 0 }, "c": { "width": 9 } } }),
            "gate \"b\": `width` = 0 cannot work: must be at least 1",
        ),
        (
            json!({ "gate": { "a": { "width": 9 }, "c": { "widht": 9 } } }),
            "gate \"c\": `widht` cannot be read: there is no such setting; there are width, open_for, opens_for, guards",
        ),
        (
            json!({ "gate": { "a": { "width": 9 }, "b": { "open_for": true } } }),
            "gate \"b\": `open_for` cannot be read: invalid type: boolean `true`, expected a time with a unit, as text, such as \"250ms\" or \"1m 30s\"",
        ),
        (
            json!({ "gate": { "a": { "width": 9, "opens_for": { "all": null, "taller": 1 } } } }),
            "gate \"a\": `opens_for` cannot be read: invalid value: map, expected map with a single key",
        ),
        (
            json!({ "gate": { "a": 9 } }),
            "gate \"a\": `settings` cannot be read: invalid type: integer `9`, expected a table of settings",
        ),
        (json!({ "gate": 9 }), "`gate` cannot be read: invalid type: integer `9`, expected a table of names"),
        (json!([]), "`patch` cannot be read: invalid type: sequence, expected a table of kinds"),
    ] {
        assert_eq!(registry.apply(&patch).unwrap_err().to_string(), why);
        assert!(all_as_before(), "{patch}");
    }
    let twice = r#"{ "gate": { "a": { "width": 9 } }, "gate": { "a": { "width": 8 } } }"#;
    let why = registry.apply(&mut serde_json::Deserializer::from_str(twice)).unwrap_err();
    assert_eq!(why.to_string(), "gate \"a\": `settings` cannot be read: they stand there twice");
    let broken = r#"{ "gate": { "a": { "width": 9 } }"#;
    let why = registry.apply(&mut serde_json::Deserializer::from_str(broken)).unwrap_err();
    assert_eq!(why.field(), "patch");
    assert!(all_as_before());
    // Nothing is held either.
    registry.get::<Gate>("a").unwrap().update(|config| config.width = 4).unwrap();
}

#[test]
fn settings_are_held_in_order_of_kind_and_name_whatever_that_of_the_patch() {
    let registry = Registry::new();
    let (held, order) = mpsc::channel();
    for gate in [Gate::new("b"), Gate::new("a"), door("z").0] {
        *gate.0.held.lock().unwrap() = Some(held.clone());
        match gate.kind().name {
            "door" => registry.insert(Door(gate)).unwrap(),
            _ => registry.insert(gate).unwrap(),
        }
    }
    let patch = r#"{ "gate": { "b": {}, "a": {} }, "door": { "z": {} } }"#;
    let patched = registry.apply(&mut serde_json::Deserializer::from_str(patch)).unwrap();
    assert_eq!(patched.changed, 3);
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ["z", "a", "b"]);
}

#[test]
fn patches_at_the_same_time_neither_wait_for_each_other_for_ever_nor_mix() {
    in_time(|| {
        let registry = Registry::new();
        for name in ["a", "b", "c"] {
            registry.insert(Gate::new(name)).unwrap();
        }
        let start = Barrier::new(3);
        let patches = |width: u32, order: [&'static str; 3]| {
            let (registry, start) = (&registry, &start);
            move || {
                let gates = order.map(|name| format!(r#""{name}": {{ "width": {width} }}"#)).join(", ");
                let patch = format!(r#"{{ "gate": {{ {gates} }} }}"#);
                start.wait();
                for _ in 0..2_000 {
                    let patched = registry.apply(&mut serde_json::Deserializer::from_str(&patch)).unwrap();
                    assert_eq!(patched.changed, 3);
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(patches(1, ["a", "b", "c"]));
            scope.spawn(patches(2, ["c", "b", "a"]));
            scope.spawn(patches(3, ["b", "a", "c"]));
        });
        let widths: Vec<_> = registry.list_of::<Gate>().iter().map(|gate| gate.config().width).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{widths:?}");
    });
}

// A change that was read, made and written back lost half of the changes of two threads.
#[test]
fn no_change_is_lost_if_two_threads_change_the_settings_of_one_policy() {
    let registry = Registry::new();
    registry.insert(Gate::of(Gate::builder("a").open_for(Duration::ZERO), &GATE).unwrap()).unwrap();
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let gate = registry.get::<Gate>("a").unwrap();
                for _ in 0..10_000 {
                    gate.update(|config| config.open_for += Duration::from_millis(1)).unwrap();
                }
            });
        }
        for n in 0..1_000 {
            assert_eq!(registry.apply(json!({ "gate": { "a": { "width": n + 1 } } })).unwrap().changed, 1);
        }
    });
    let config = registry.get::<Gate>("a").unwrap().config();
    assert_eq!((config.open_for, config.width), (Duration::from_secs(20), 1_000));
}

#[test]
fn snapshot_health_and_reset_are_of_all_policies() {
    let registry = Registry::new();
    assert_eq!((registry.health().worst, registry.health().each.len()), (Health::Up, 0));
    assert_eq!(serde_json::to_value(registry.snapshot()).unwrap(), json!({}));
    registry.insert(Gate::new("b")).unwrap();
    registry.insert(Gate::new("a")).unwrap();
    registry.insert(door("a")).unwrap();
    registry.get::<Gate>("b").unwrap().0.shut.store(true, SeqCst);
    registry.reset_all();
    let snapshot = serde_json::to_string(&registry.snapshot()).unwrap();
    assert_eq!(snapshot, r#"{"door":{"a":{"resets":1}},"gate":{"a":{"resets":1},"b":{"resets":1}}}"#);
    let health = registry.health();
    assert_eq!(health.worst, Health::Down);
    let each: Vec<_> = health.each.iter().map(|(kind, name, health)| (kind.name, &**name, *health)).collect();
    assert_eq!(each, [("door", "a", Health::Up), ("gate", "a", Health::Up), ("gate", "b", Health::Down)]);
}

impl Gate {
    /// Something happens.
    fn note(&self, what: &'static str) {
        self.0.emitter.later(OwnedEvent::Note(Note::new(what)));
        self.0.emitter.deliver();
    }
}

/// Of which policy, and what.
fn told(event: PolicyEvent) -> (String, &'static str) {
    match event.what {
        OwnedEvent::Note(note) => (event.policy.to_string(), note.what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn events_are_those_of_all_policies_of_those_to_come_too() {
    let registry = Registry::new();
    let early = registry.get_or_create("early", |name| Ok(Gate::new(name))).unwrap();
    early.note("before");
    let (mut events, mut others) = (registry.events(), registry.events());
    early.note("opened");
    let late = registry.get_or_create("late", |name| Ok(Gate::new(name))).unwrap();
    late.note("opened");
    early.note("shut");
    let own = Gate::new("own");
    own.note("before");
    registry.insert(own.clone()).unwrap();
    own.note("opened");
    // Taken out and put in again, it is heard of once.
    registry.remove::<Gate>("own").unwrap();
    registry.insert(own.clone()).unwrap();
    registry.get_or_create("own", |name| Ok(Gate::new(name))).unwrap().note("shut");
    let all =
        [("early", "opened"), ("late", "opened"), ("early", "shut"), ("own", "opened"), ("own", "shut")];
    for events in [&mut events, &mut others] {
        let heard: Vec<_> = std::iter::from_fn(|| events.try_next()).map(told).collect();
        assert!(heard.iter().map(|(policy, what)| (&**policy, *what)).eq(all), "{heard:?}");
        assert_eq!(events.missed(), 0);
    }
}

#[test]
fn events_wait_within_bounds_and_end_with_the_registry_and_its_policies() {
    let registry = Registry::new();
    let gates = ["a", "b"].map(|name| registry.get_or_create(name, |name| Ok(Gate::new(name))).unwrap());
    let mut events = registry.events();
    for _ in 0..600 {
        gates.iter().for_each(|gate| gate.note("opened"));
    }
    assert_eq!(events.missed(), 176);
    assert_eq!(std::iter::from_fn(|| events.try_next()).count(), 1_024);
    let mut next = task::spawn(events.next());
    assert_pending!(next.poll());
    drop(registry);
    let [first, second] = gates;
    first.note("shut");
    assert!(next.is_woken());
    assert_eq!(told(assert_ready!(next.poll()).unwrap()), ("a".into(), "shut"));
    drop((next, first));
    let mut next = task::spawn(events.next());
    assert_pending!(next.poll());
    drop(second);
    assert_eq!(assert_ready!(next.poll()), None);
}

#[test]
fn subscription_at_the_moment_at_which_a_policy_comes_misses_nothing() {
    let registry = Registry::new();
    let mut before = registry.events();
    let (during, all) = (Arc::new(Mutex::new(None)), registry.clone());
    let gate = Gate::new("a");
    let (subscribed, emitter) = (during.clone(), gate.0.emitter.clone());
    *gate.0.followed.lock().unwrap() = Some(Box::new(move || {
        if all.list().is_empty() {
            *subscribed.lock().unwrap() = Some(all.events());
        } else {
            // It can be found, and so it can be used.
            emitter.later(OwnedEvent::Note(Note::new("opened")));
            emitter.deliver();
        }
    }));
    registry.insert(gate.clone()).unwrap();
    gate.note("shut");
    let mut during = during.lock().unwrap().take().unwrap();
    for events in [&mut before, &mut during] {
        assert_eq!(told(events.try_next().unwrap()), ("a".into(), "opened"));
        assert_eq!(told(events.try_next().unwrap()), ("a".into(), "shut"));
        assert_eq!(events.try_next(), None);
    }
}

// Two patches, whose listeners change the settings of yet another policy, and of the same ones by hand.
#[test]
fn listeners_may_change_settings_of_any_policy_while_patches_are_applied() {
    let heard = in_time(|| {
        let registry = Registry::new();
        let heard = Arc::new(AtomicU32::new(0));
        for (name, other) in [("a", "b"), ("b", "c"), ("c", "a")] {
            let (others, heard) = (registry.clone(), heard.clone());
            let change = move |event: &buttress_core::Event<'_>| {
                let buttress_core::Event::Note(Note { what: Note::RECONFIGURED, .. }) = event else { return };
                // So that they do not answer each other for ever.
                if heard.fetch_add(1, SeqCst) % 8 == 0 {
                    let gate = others.get::<Gate>(other).unwrap();
                    gate.update(|config| config.width += 1).unwrap();
                    let patch = json!({ "gate": { "c": { "width": 7 }, "a": { "width": 8 } } });
                    assert_eq!(others.apply(patch).unwrap().changed, 2);
                }
            };
            let builder = Gate::builder(name).on_event(change);
            registry.insert(Gate::of(builder, &GATE).unwrap()).unwrap();
        }
        let start = Barrier::new(2);
        let patches = |order: [&'static str; 3]| {
            let (registry, start) = (&registry, &start);
            move || {
                let gates = order.map(|name| format!(r#""{name}": {{ "width": 9 }}"#)).join(", ");
                let patch = format!(r#"{{ "gate": {{ {gates} }} }}"#);
                start.wait();
                for _ in 0..300 {
                    let patched = registry.apply(&mut serde_json::Deserializer::from_str(&patch)).unwrap();
                    assert_eq!(patched.changed, 3);
                }
            }
        };
        thread::scope(|scope| {
            scope.spawn(patches(["a", "b", "c"]));
            scope.spawn(patches(["c", "b", "a"]));
        });
        heard.load(SeqCst)
    });
    assert!(heard >= 1_800, "{heard}");
}

#[test]
fn listeners_are_told_when_all_of_a_patch_is_in_force() {
    let seen = in_time(|| {
        let registry = Registry::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        for name in ["a", "b"] {
            let (all, seen) = (registry.clone(), seen.clone());
            let look = move |_: &buttress_core::Event<'_>| {
                let widths: Vec<_> = all.list_of::<Gate>().iter().map(|gate| gate.config().width).collect();
                seen.lock().unwrap().push(widths);
            };
            registry.insert(Gate::of(Gate::builder(name).on_event(look), &GATE).unwrap()).unwrap();
        }
        let patch = json!({ "gate": { "a": { "width": 7 }, "b": { "width": 8 } } });
        assert_eq!(registry.apply(patch).unwrap().changed, 2);
        seen.lock().unwrap().clone()
    });
    assert_eq!(seen, [[7, 8], [7, 8]]);
}

// A patch may come from a socket, whose other end is slow, or from somebody who looks at the policies meanwhile.
#[test]
fn patch_is_read_with_no_settings_held() {
    struct Looks(Registry, &'static [u8]);
    impl std::io::Read for Looks {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            for gate in self.0.list_of::<Gate>() {
                gate.update(|config| config.open_for += Duration::from_secs(1)).unwrap();
            }
            let to = if to.len() > 1 { &mut to[..1] } else { to };
            self.1.read(to)
        }
    }
    let widths = in_time(|| {
        let registry = Registry::new();
        registry.insert(Gate::new("a")).unwrap();
        registry.insert(Gate::new("b")).unwrap();
        let text = br#"{ "gate": { "a": { "width": 7 }, "b": { "width": 8 } } }"#;
        let patch = Looks(registry.clone(), text);
        assert_eq!(registry.apply(&mut serde_json::Deserializer::from_reader(patch)).unwrap().changed, 2);
        let all = registry.list_of::<Gate>();
        // What was changed while the patch was read is kept.
        assert!(all.iter().all(|gate| gate.config().open_for > Duration::from_secs(30)));
        all.iter().map(|gate| gate.config().width).collect::<Vec<_>>()
    });
    assert_eq!(widths, [7, 8]);
}
