mod places;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, Weak},
    thread,
};

use buttress_core::{ConfigError, Kind, Name};
use serde::{
    Serialize,
    ser::{SerializeMap, Serializer},
};

use self::places::{Place, Places};
use crate::{
    Events, Handle, Health, Held,
    events::{Mailbox, Source, Subscribers},
    patch::{each_entry, skip},
    unpoisoned,
};

/// How many names there may be unless it is said.
const MAX_NAMES: usize = 10_000;

/// Policies of all patterns, by kind and name: to get one anywhere, and to see and steer them all. Clones are the same
/// registry. Nothing registers itself.
///
/// Kind and name are one place, which holds one policy: `breaker "payments"` is a breaker, or a breaker by key, and a
/// second one is refused until the first is [taken out](Self::remove).
///
/// It is for names that the program knows. No name may come from a request; if one does after all, at most 10 000 are
/// made, or [another number](Self::with_max_names). For keys of requests there are policies by key, which forget what
/// is idle.
///
/// ```
/// # use std::sync::Arc;
/// # use buttress_core::{ConfigError, Kind, KindData, Name};
/// # use buttress_kit::{Emitter, Events, Handle, Live, One, Prepared, handle::{Data, Patch}};
/// # buttress_kit::settings! {
/// #     /// The settings of a gate.
/// #     pub struct GateConfig, builder GateBuilder {
/// #         /// How wide.
/// #         pub width: u32 = 3,
/// #     }
/// # }
/// # impl GateConfig { fn validate(&self) -> Result<(), ConfigError> { Ok(()) } }
/// # impl GateBuilder {
/// #     fn build(self) -> Result<Gate, ConfigError> {
/// #         let (config, emitter) = self.parts.checked(&KIND)?;
/// #         Ok(Gate(Arc::new((Live::new(config, emitter.clone()), emitter))))
/// #     }
/// # }
/// # static KIND: KindData = KindData::new("gate");
/// # #[derive(Clone)]
/// # struct Gate(Arc<(Live<GateConfig>, Emitter)>);
/// # impl Gate {
/// #     fn builder(name: impl Into<Name>) -> GateBuilder { GateBuilder::<One>::new(name) }
/// #     fn config(&self) -> GateConfig { self.0.0.get() }
/// # }
/// # impl Handle for Gate {
/// #     fn pattern() -> Kind { &KIND }
/// #     fn kind(&self) -> Kind { &KIND }
/// #     fn name(&self) -> &Name { self.0.1.name() }
/// #     fn snapshot_data(&self) -> Data<'_> { Box::new(self.config()) }
/// #     fn config_data(&self) -> Data<'_> { Box::new(self.config()) }
/// #     fn reset(&self) {}
/// #     fn events(&self) -> Events { self.0.1.events() }
/// #     fn prepare(&self, patch: Patch<'_, '_>) -> Result<Prepared<'_>, ConfigError> {
/// #         self.0.0.prepare(patch, |_, _| (), || ())
/// #     }
/// # }
/// use buttress_kit::Registry;
///
/// let registry = Registry::new();
/// let north = registry.get_or_create("north", |name| Gate::builder(name).width(2).build())?;
/// let found: Option<Gate> = registry.get("north");
/// assert!(found.is_some());
///
/// let patch = toml::Deserializer::parse("[gate.north]\nwidth = 5\n[gate.south]\nwidth = 6")?;
/// let patched = registry.apply(patch)?;
/// assert_eq!((patched.changed, &*patched.unknown), (1, &["gate.south".to_owned()][..]));
/// assert_eq!(north.config().width, 5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    places: Mutex<Places>,
    /// Somebody has made a policy, or could not.
    made: Condvar,
    max_names: usize,
    subscribers: Subscribers,
}

impl Registry {
    /// Makes an empty registry.
    pub fn new() -> Self {
        Self::with_max_names(MAX_NAMES)
    }

    /// Makes an empty registry in which [`get_or_create`](Self::get_or_create) makes no policy of a further name if
    /// there are so many.
    pub fn with_max_names(max_names: usize) -> Self {
        let subscribers = Subscribers::default();
        let shared = Shared { places: Mutex::default(), made: Condvar::new(), max_names, subscribers };
        Self { shared: Arc::new(shared) }
    }

    /// Puts a policy in, however many there are.
    ///
    /// # Errors
    /// There is one of its kind and name. It stays.
    pub fn insert<P: Handle>(&self, policy: P) -> Result<(), ConfigError> {
        let (kind, name) = (P::pattern(), policy.name().clone());
        match self.claim(kind, &name, usize::MAX)? {
            Claim::Taken(_) => Err(taken(kind, &name)),
            Claim::Mine(place) => {
                place.hold(Arc::new(policy));
                Ok(())
            }
        }
    }

    /// The handle of this pattern and name.
    pub fn get<P: Handle + Clone>(&self, name: &str) -> Option<P> {
        let policy = self.lock().policy(P::pattern().name, name)?;
        typed(&*policy)
    }

    /// The handle of this pattern and name; made by `make` if there is none, by exactly one of those who ask at the
    /// same time. The others wait for it. Whatever `make` does, it may use the registry.
    ///
    /// # Errors
    /// That of `make`: then the place is free, and those who wait try with theirs. If the place holds a policy of the
    /// same kind and another type, such as one by key. With `max_names`, if the name is new and there are as many as
    /// there may be. If the policy can only be made after itself, because what `make` waits for waits for it.
    pub fn get_or_create<P: Handle + Clone>(
        &self,
        name: impl Into<Name>,
        make: impl FnOnce(Name) -> Result<P, ConfigError>,
    ) -> Result<P, ConfigError> {
        let (kind, name) = (P::pattern(), name.into());
        match self.claim(kind, &name, self.shared.max_names)? {
            Claim::Taken(policy) => typed(&*policy).ok_or_else(|| taken(kind, &name)),
            Claim::Mine(place) => {
                let policy = make(name.clone())?;
                if policy.name().as_str() != name.as_str() {
                    let why = format!("must be the name that was asked for, which is {name:?}");
                    return Err(ConfigError::new("name", policy.name(), why).of(kind, &name));
                }
                place.hold(Arc::new(policy.clone()));
                Ok(policy)
            }
        }
    }

    /// Takes out the handle of this pattern and name. Those who hold it go on using it.
    pub fn remove<P: Handle + Clone>(&self, name: &str) -> Option<P> {
        let kind = P::pattern().name;
        let mut places = self.lock();
        let policy = places.policy(kind, name)?;
        if !policy_is::<P>(&*policy) {
            return None;
        }
        places.remove(kind, name);
        drop(places);
        typed(&*policy)
    }

    /// Takes all of them out.
    pub fn clear(&self) {
        let all = self.lock().take_all();
        // What they hold may use the registry as it goes.
        drop(all);
    }

    /// All policies, in order of kind and name.
    pub fn list(&self) -> Vec<Arc<dyn Handle>> {
        self.lock().policies()
    }

    /// The handles of one pattern, in order of their names.
    pub fn list_of<P: Handle + Clone>(&self) -> Vec<P> {
        self.list().iter().filter_map(|policy| typed(&**policy)).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list().is_empty()
    }

    /// What all of them tell from now on, those that come later too, as [`Events`] of one policy. A policy that is
    /// taken out is heard of as long as it lives.
    pub fn events(&self) -> Events {
        let source: Weak<Shared> = Arc::downgrade(&self.shared);
        Events::of(source)
    }

    /// Resets all of them.
    pub fn reset_all(&self) {
        self.list().iter().for_each(|policy| policy.reset());
    }

    /// How all of them are.
    pub fn health(&self) -> RegistryHealth {
        let all = self.list();
        let each: Vec<_> =
            all.iter().map(|policy| (policy.kind(), policy.name().clone(), policy.health())).collect();
        let worst = each.iter().map(|(.., health)| *health).max().unwrap_or(Health::Up);
        RegistryHealth { worst, each }
    }

    /// What all of them do and have done: `{ kind = { name = { .. } } }`. Each is asked as it is written.
    pub fn snapshot(&self) -> impl Serialize + use<> {
        Tree(self.list())
    }

    /// Changes settings of many policies at once: `{ kind = { name = { setting = value } } }`. All of it, or nothing
    /// if one setting cannot work. Listeners are told when all of it is in force.
    ///
    /// # Errors
    /// Names the policy, the setting that cannot work, its value, and why.
    pub fn apply<'de>(&self, patch: impl serde::Deserializer<'de>) -> Result<Patched, ConfigError> {
        let all = self.list();
        let (mut prepared, mut unknown) = (BTreeMap::new(), Vec::new());
        let mut patch = <dyn erased_serde::Deserializer<'_>>::erase(patch);
        each_entry(&mut patch, "patch", "kinds", &mut |kind, names| {
            each_entry(names, &kind, "names", &mut |name, settings| {
                let place = (&*kind, &*name);
                let Ok(at) = all.binary_search_by(|one| (one.kind().name, &**one.name()).cmp(&place)) else {
                    unknown.push(format!("{kind}.{name}"));
                    return skip(settings);
                };
                let change = all[at].prepare(settings).map_err(|why| of(&all[at], why))?;
                match prepared.insert(at, change) {
                    Some(_) => {
                        Err(of(&all[at], ConfigError::unreadable("settings", "they stand there twice")))
                    }
                    None => Ok(()),
                }
            })
        })?;
        let changed = prepared.len();
        // In order of kind and name, whatever that of the patch: others may be doing the same.
        let held = prepared.into_iter().map(|(at, change)| change.hold().map_err(|why| of(&all[at], why)));
        let held = held.collect::<Result<Vec<_>, _>>()?;
        let told: Vec<_> = held.into_iter().map(Held::commit).collect();
        told.into_iter().for_each(|tell| tell());
        Ok(Patched { changed, unknown })
    }

    /// The place of this kind and name, or what it holds. Waits for what is being made there.
    fn claim(&self, kind: Kind, name: &Name, max_names: usize) -> Result<Claim<'_>, ConfigError> {
        let thread = thread::current().id();
        let mut places = self.lock();
        loop {
            match places.get(kind.name, name) {
                Some(Place::Holds(policy)) => return Ok(Claim::Taken(policy.clone())),
                Some(&Place::MadeBy(maker)) => {
                    if places.is_circle(thread, maker) {
                        let why = "is made from what is made from it";
                        return Err(ConfigError::new("name", name, why).of(kind, name));
                    }
                    places.waits(thread, maker);
                    places = unpoisoned(self.shared.made.wait(places));
                    places.waits_no_more(thread);
                }
                None if places.len() >= max_names => {
                    let why =
                        "there are as many names already; if they come from requests, use a policy by key";
                    return Err(ConfigError::new("max_names", max_names, why).of(kind, name));
                }
                None => {
                    places.put(kind.name, name, Place::MadeBy(thread));
                    drop(places);
                    return Ok(Claim::Mine(Mine { registry: self, kind, name: name.clone(), policy: None }));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.shared.lock()
    }
}

impl Shared {
    /// Never held while code of others runs.
    fn lock(&self) -> MutexGuard<'_, Places> {
        unpoisoned(self.places.lock())
    }

    /// What this policy tells goes to those who subscribed so far.
    fn pass_on(&self, policy: &dyn Handle) {
        if self.subscribers.any() {
            let events = policy.events();
            self.subscribers.present().iter().for_each(|mailbox| events.also_into(mailbox));
        }
    }
}

impl Source for Shared {
    fn fill(&self, mailbox: &Arc<Mailbox>) {
        // First: those that come from here on see it.
        self.subscribers.add(mailbox);
        let all = self.lock().policies();
        all.iter().for_each(|policy| policy.events().also_into(mailbox));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.subscribers.end();
    }
}

enum Claim<'a> {
    Taken(Arc<dyn Handle>),
    Mine(Mine<'a>),
}

/// A place that this thread fills. When this is dropped it holds the policy, or is free again.
struct Mine<'a> {
    registry: &'a Registry,
    kind: Kind,
    name: Name,
    policy: Option<Arc<dyn Handle>>,
}

impl Mine<'_> {
    fn hold(mut self, policy: Arc<dyn Handle>) {
        let shared = &self.registry.shared;
        // Before anybody can get it; and again, for those who subscribed meanwhile and did not find it.
        shared.pass_on(&*policy);
        self.policy = Some(policy.clone());
        drop(self);
        shared.pass_on(&*policy);
    }
}

impl Drop for Mine<'_> {
    fn drop(&mut self) {
        let mut places = self.registry.lock();
        match self.policy.take() {
            Some(policy) => places.put(self.kind.name, &self.name, Place::Holds(policy)),
            None => places.remove(self.kind.name, &self.name),
        }
        drop(places);
        self.registry.shared.made.notify_all();
    }
}

fn of(policy: &Arc<dyn Handle>, why: ConfigError) -> ConfigError {
    why.of(policy.kind(), policy.name())
}

fn policy_is<P: Handle>(policy: &dyn Handle) -> bool {
    policy.as_any().is::<P>()
}

fn typed<P: Handle + Clone>(policy: &dyn Handle) -> Option<P> {
    policy.as_any().downcast_ref().cloned()
}

fn taken(kind: Kind, name: &Name) -> ConfigError {
    let why = "the registry has another one of this kind and name; one by key counts as the same kind";
    ConfigError::new("name", name, why).of(kind, name)
}

/// How all policies of a registry are; made by [`Registry::health`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RegistryHealth {
    /// How the worst one is.
    pub worst: Health,
    /// How each one is, in order of kind and name.
    pub each: Vec<(Kind, Name, Health)>,
}

/// What a patch did; made by [`Registry::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a policy that there is not may be a typing error"]
pub struct Patched {
    /// How many policies have new settings.
    pub changed: usize,
    /// What the patch names and the registry does not have, as `kind.name`.
    pub unknown: Vec<String>,
}

/// Policies as data: by kind, then by name.
struct Tree(Vec<Arc<dyn Handle>>);

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut kinds = to.serialize_map(None)?;
        for policies in self.0.chunk_by(|one, other| one.kind() == other.kind()) {
            if let Some(first) = policies.first() {
                kinds.serialize_entry(first.kind().name, &OfKind(policies))?;
            }
        }
        kinds.end()
    }
}

struct OfKind<'a>(&'a [Arc<dyn Handle>]);

impl Serialize for OfKind<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|policy| (policy.name().as_str(), policy.snapshot_data())))
    }
}

impl Clone for Registry {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.list();
        f.debug_list().entries(all.iter().map(|policy| (policy.kind().name, policy.name()))).finish()
    }
}
