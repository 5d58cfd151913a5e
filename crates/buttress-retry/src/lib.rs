//! Retries for Tower services: backoff, jitter, Retry-After, budgets, replay of the request
