"""Numbers that several estimators use."""

#: Turns the median absolute deviation of a normal distribution into its standard deviation, 1 / Phi^-1(3/4).
MAD_TO_SIGMA = 1.4826

#: Interquartile range of a normal distribution in its standard deviations, 2 Phi^-1(3/4).
IQR_PER_SIGMA = 1.349

#: Full width at half maximum of a normal distribution in its standard deviations, sqrt(8 ln 2).
FWHM_PER_SIGMA = 2.3548
