from abn_fast.proofs._published_head import PublishedHead

__all__ = ["PublishedHead"]
