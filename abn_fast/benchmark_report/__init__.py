from abn_fast.benchmark_report.against import Change, slower
from abn_fast.benchmark_report.case import Case, Comparison, Measured
from abn_fast.benchmark_report.results import Results, read_json

__all__ = ["Case", "Change", "Comparison", "Measured", "Results", "read_json", "slower"]
