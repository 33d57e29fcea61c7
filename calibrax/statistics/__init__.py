"Summaries, intervals, tests, effect sizes, corrections and power of samples; names are loaded when first used."
