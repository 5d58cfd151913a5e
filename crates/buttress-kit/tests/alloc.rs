//! What the keyed map allocates, and what it does not.
//!
//! A binary of its own, because it replaces the allocator by one that counts, thread by thread.

use std::{sync::Arc, time::Duration};

use allocation_counter::measure;
use buttress_kit::KeyedMap;
use tokio::time::Instant;

#[test]
fn known_key_is_found_by_what_the_request_has_without_an_allocation() {
    let now = Instant::now().into_std();
    let map = KeyedMap::<String, Arc<u32>>::new(100, None, now);
    map.put("api.example.com".to_owned(), Arc::new(1), &(), now).unwrap();
    let made = || map.get_or_make("api.example.com", &(), now, || unreachable!("it is there"));
    let look = || assert!(made().is_some() && map.get("api.example.org").is_none());
    assert_eq!(measure(look).count_total, 0);
}

#[test]
fn key_costs_less_than_two_hundred_bytes_beside_key_and_value_however_many_come() {
    for keys in [100, 1_000, 9_000, 10_000, 14_337, 20_000] {
        let now = Instant::now().into_std();
        let mut map = None;
        let memory = measure(|| {
            let map =
                map.insert(KeyedMap::<[u8; 32], Arc<()>>::new(keys, Some(Duration::from_secs(60)), now));
            let value = Arc::new(());
            for key in 0..5 * keys {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&key.to_le_bytes());
                map.put(bytes, value.clone(), &(), now).unwrap();
            }
        });
        let per_key = memory.bytes_current / keys as i64 - 40;
        assert!(per_key < 200, "{per_key} bytes a key, of {keys}");
        assert_eq!(measure(|| drop(map.take())).bytes_current, -memory.bytes_current);
    }
}
