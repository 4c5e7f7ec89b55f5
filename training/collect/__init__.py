"""Places to chips: what to look at (mines, forest, local images) and its pixels, as a chip folder.

One module a step: ``settings`` (how a chip is made), ``table`` and ``places`` (mines from CSV and
polygons), ``areas`` and ``forest`` (random samples away from mines and towns), ``scenes`` (which
items show a place), ``window`` and ``pixels`` (one chip), ``submit`` (on Dask), ``manifest`` (what
is done), ``store`` (the files), ``fetch`` (all of it), ``images`` (local pictures), ``review``
(likely mines among forest samples); ``options``, ``told`` and ``command`` are the command line.
"""
