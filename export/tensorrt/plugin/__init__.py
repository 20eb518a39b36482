"""The gate's own kernel in an engine, in place of the standard operators: compiled ahead of time, without a GPU."""

from abn_fast.export.tensorrt.plugin.register import PLUGIN_ID, register_for_building, register_for_running

__all__ = ["PLUGIN_ID", "register_for_building", "register_for_running"]
