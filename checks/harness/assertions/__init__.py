"""What came back, judged: answers, timings, metrics, costs, overload."""
