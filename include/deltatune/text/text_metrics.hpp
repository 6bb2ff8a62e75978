// Scores of the texts that a model writes: BLEU, chrF, ROUGE and exact match.
#pragma once

#include "deltatune/text/bleu.hpp"
#include "deltatune/text/chrf.hpp"
#include "deltatune/text/exact_match.hpp"
#include "deltatune/text/references.hpp"
#include "deltatune/text/rouge.hpp"
