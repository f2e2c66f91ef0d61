"""Run page: one search as one HTML file, which needs no server, no network and no m2n2lab.

``data`` gathers its numbers from a search, ``page`` puts them into ``run_page.html`` with the
script and the style beside it. The plots are drawn by that script, on canvases and as SVG: Bokeh's
own scripts are a megabyte that every phone would parse, and a slider over the archive would need
code of our own all the same.
"""

from m2n2lab.viz.run_page.page import run_page

__all__ = ["run_page"]
