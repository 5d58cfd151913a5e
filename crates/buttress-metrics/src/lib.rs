//! Exports what buttress policies do through the metrics facade and tracing
