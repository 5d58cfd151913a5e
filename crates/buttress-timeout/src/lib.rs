//! Deadlines for Tower services: total, per attempt, per request, named
