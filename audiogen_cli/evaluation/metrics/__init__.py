"""The metrics of eval (paper sec. 4; Tables 1 to 5).

A new metric is one file with a subclass of `base.Metric` or `base.CodecMetric`, and one line in `registry`.

base            the two interfaces
registry        all metrics by name
fad, frechet    FAD and FAD at infinity; the Fréchet distance
kl              KL divergence of class distributions, in four variants
inception       inception score
clap            CLAP score
class_hits      is an ESC-50 sound recognized as its class?
reconstruction  SI-SNR, mel distance and ViSQOL of a codec (Table 2)
codes           bitrate and use of the codebooks (Table 2)
intervals       95% intervals over clips
"""
