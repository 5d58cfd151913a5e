//! A circuit breaker for Tower services: consecutive, failure-rate and slow-call rules, leased probes
