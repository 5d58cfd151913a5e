//! The words all buttress crates share: rejections, verdicts, backoff, budgets, call context, observers
