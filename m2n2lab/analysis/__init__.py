"""Analysis of a search as plain arrays: niches, attraction, landscape, lineage, members."""

from __future__ import annotations

from typing import TYPE_CHECKING

from m2n2lab.utils.lazy import lazy_names

if TYPE_CHECKING:
    from m2n2lab.analysis.comparison import compare_data
    from m2n2lab.analysis.landscape import landscape_data
    from m2n2lab.analysis.lineage import Lineage
    from m2n2lab.analysis.lineage_arrays import lineage_data, painting_data, shares_data
    from m2n2lab.analysis.lineage_replay import retraced
    from m2n2lab.analysis.maps import attraction_data, curves_data, niches_data
    from m2n2lab.analysis.members import member_page, members_data
    from m2n2lab.analysis.merge_preview import bench_data

_HOMES = {
    "Lineage": "m2n2lab.analysis.lineage",
    "attraction_data": "m2n2lab.analysis.maps",
    "bench_data": "m2n2lab.analysis.merge_preview",
    "compare_data": "m2n2lab.analysis.comparison",
    "curves_data": "m2n2lab.analysis.maps",
    "landscape_data": "m2n2lab.analysis.landscape",
    "lineage_data": "m2n2lab.analysis.lineage_arrays",
    "member_page": "m2n2lab.analysis.members",
    "members_data": "m2n2lab.analysis.members",
    "niches_data": "m2n2lab.analysis.maps",
    "painting_data": "m2n2lab.analysis.lineage_arrays",
    "retraced": "m2n2lab.analysis.lineage_replay",
    "shares_data": "m2n2lab.analysis.lineage_arrays",
}
__all__ = [
    "Lineage",
    "attraction_data",
    "bench_data",
    "compare_data",
    "curves_data",
    "landscape_data",
    "lineage_data",
    "member_page",
    "members_data",
    "niches_data",
    "painting_data",
    "retraced",
    "shares_data",
]
__getattr__, __dir__ = lazy_names(__name__, _HOMES)
