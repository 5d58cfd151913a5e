//! A concurrency limit for Tower services with a bounded, strictly FIFO queue
