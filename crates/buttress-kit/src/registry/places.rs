//! Which policies there are, and which are being made. Plain data, behind the registry's lock.

use std::{collections::BTreeMap, sync::Arc, thread::ThreadId};

use crate::Handle;

/// What there is under a kind and a name.
pub(super) enum Place {
    /// A policy.
    Holds(Arc<dyn Handle>),
    /// Nothing yet: this thread makes a policy.
    MadeBy(ThreadId),
}

#[derive(Default)]
pub(super) struct Places {
    kinds: BTreeMap<&'static str, BTreeMap<Box<str>, Place>>,
    len: usize,
    /// Which thread waits for which other one to make a policy.
    waiting: Vec<(ThreadId, ThreadId)>,
}

impl Places {
    /// How many names there are, of those being made too.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, kind: &str, name: &str) -> Option<&Place> {
        self.kinds.get(kind)?.get(name)
    }

    pub(super) fn policy(&self, kind: &str, name: &str) -> Option<Arc<dyn Handle>> {
        match self.get(kind, name)? {
            Place::Holds(policy) => Some(policy.clone()),
            Place::MadeBy(_) => None,
        }
    }

    /// The policies, in order of kind and name.
    pub(super) fn policies(&self) -> Vec<Arc<dyn Handle>> {
        let all = self.kinds.values().flat_map(BTreeMap::values);
        let made = all.filter_map(|place| match place {
            Place::Holds(policy) => Some(policy.clone()),
            Place::MadeBy(_) => None,
        });
        made.collect()
    }

    pub(super) fn put(&mut self, kind: &'static str, name: &str, place: Place) {
        if self.kinds.entry(kind).or_default().insert(name.into(), place).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, kind: &str, name: &str) {
        let Some(names) = self.kinds.get_mut(kind) else { return };
        if names.remove(name).is_some() {
            self.len -= 1;
        }
        if names.is_empty() {
            self.kinds.remove(kind);
        }
    }

    /// Takes all policies out; what is being made stays.
    pub(super) fn take_all(&mut self) -> Vec<Arc<dyn Handle>> {
        let all = self.policies();
        for names in self.kinds.values_mut() {
            names.retain(|_, place| matches!(place, Place::MadeBy(_)));
        }
        self.kinds.retain(|_, names| !names.is_empty());
        self.len -= all.len();
        all
    }

    /// Whether `thread` would wait for itself if it waited for `maker`.
    pub(super) fn is_circle(&self, thread: ThreadId, mut maker: ThreadId) -> bool {
        while maker != thread {
            match self.waiting.iter().find(|(waits, _)| *waits == maker) {
                Some((_, next)) => maker = *next,
                None => return false,
            }
        }
        true
    }

    pub(super) fn waits(&mut self, thread: ThreadId, maker: ThreadId) {
        self.waiting.push((thread, maker));
    }

    pub(super) fn waits_no_more(&mut self, thread: ThreadId) {
        self.waiting.retain(|(waits, _)| *waits != thread);
    }
}
