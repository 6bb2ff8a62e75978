#include "deltatune/text/text_metrics.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/io/mapped_file.hpp"
#include "deltatune/io/parse_json.hpp"
#include "text/tokenizer_files.hpp"

namespace deltatune {
namespace {

using Catch::Contains;
using Texts = std::vector<std::string>;

struct ScoredCorpus {
  Texts hypotheses, first_references;
  std::vector<Texts> references;
  nlohmann::json scores;
};

std::vector<ScoredCorpus> scored_corpora() {
  const nlohmann::json golden = parse_json(MappedFile(tokenizer_files::data / "text_metrics.json").text(), "text_metrics.json");
  std::vector<ScoredCorpus> corpora;
  for (const nlohmann::json& row : golden.at("corpora")) {
    ScoredCorpus corpus{.hypotheses = {}, .first_references = {}, .references = {}, .scores = row};
    for (const nlohmann::json& line : row.at("lines")) {
      const Texts pair = golden.at("pairs").at(line.get<std::size_t>());
      const std::size_t most = 1 + row.at("references").get<std::size_t>();
      corpus.hypotheses.push_back(pair.at(0));
      corpus.first_references.push_back(pair.at(1));
      corpus.references.emplace_back(pair.begin() + 1, pair.begin() + static_cast<std::ptrdiff_t>(std::min(most, pair.size())));
    }
    corpora.push_back(corpus);
  }
  return corpora;
}

Approx same(const nlohmann::json& value) { return Approx(value.get<double>()).epsilon(1e-9); }

void check_rouge(const RougeScore& score, const nlohmann::json& expected) {
  CHECK(score.precision == same(expected.at(0)));
  CHECK(score.recall == same(expected.at(1)));
  CHECK(score.f == same(expected.at(2)));
}

}  // namespace

// tests/data/text_metrics.json: the scores of sacrebleu 2.6.0 and rouge-score 0.1.2.
TEST_CASE("BLEU, chrF, ROUGE and exact match are those of sacrebleu and rouge-score", "[text][metrics]") {
  const std::vector<ScoredCorpus> corpora = scored_corpora();
  REQUIRE(corpora.size() > 190);
  for (const ScoredCorpus& corpus : corpora) {
    CAPTURE(corpus.scores.at("lines").dump(), corpus.scores.at("references").dump(), corpus.hypotheses.at(0), corpus.references.at(0));
    const References references = corpus.references;

    const nlohmann::json& expected_bleu = corpus.scores.at("bleu");
    const Bleu bleu = corpus_bleu(corpus.hypotheses, references);
    CHECK(bleu.score == same(expected_bleu.at(0)));
    CHECK(bleu.brevity_penalty == same(expected_bleu.at(1)));
    CHECK(bleu.hypothesis_length == expected_bleu.at(2));
    CHECK(bleu.reference_length == expected_bleu.at(3));
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(bleu.precisions[i] == same(expected_bleu.at(4).at(i)));
      CHECK(bleu.matches[i] == expected_bleu.at(5).at(i));
      CHECK(bleu.ngrams[i] == expected_bleu.at(6).at(i));
    }

    const nlohmann::json& expected_chrf = corpus.scores.at("chrf");
    CHECK(corpus_chrf(corpus.hypotheses, references).score == same(expected_chrf.at(0)));
    CHECK(corpus_chrf(corpus.hypotheses, references, {.word_order = 2}).score == same(expected_chrf.at(1)));
    CHECK(corpus_chrf(corpus.hypotheses, references, {.character_order = 4, .word_order = 1, .beta = 3}).score == same(expected_chrf.at(2)));

    const Rouge rouge = mean_rouge(corpus.hypotheses, references);
    check_rouge(rouge.rouge_1, corpus.scores.at("rouge").at(0));
    check_rouge(rouge.rouge_2, corpus.scores.at("rouge").at(1));
    check_rouge(rouge.rouge_l, corpus.scores.at("rouge").at(2));
    check_rouge(rouge.rouge_l_sum, corpus.scores.at("rouge").at(3));

    CHECK(exact_match(corpus.hypotheses, references) == same(corpus.scores.at("exact")));

    if (corpus.scores.at("references") != 1) continue;
    CHECK(corpus_bleu(corpus.hypotheses, corpus.first_references).score == bleu.score);
    CHECK(exact_match(corpus.hypotheses, corpus.first_references) == exact_match(corpus.hypotheses, references));
  }
}

TEST_CASE("mteval's words", "[text][metrics]") {
  CHECK(detail::words_13a("It's 1,234.5-x, \"a-b\".") == Texts{"It's", "1,234.5", "-", "x", ",", "\"", "a-b", "\"", "."});
  CHECK(detail::words_13a("a,,b") == Texts{"a", ",", ",", "b"});
  CHECK(detail::words_13a("&amp;lt; &amp;quot; co-\nop co-\n") == Texts{"<", "&", "quot", ";", "coop", "co-"});
  CHECK(detail::words_13a(" \n\u3000").empty());
  CHECK(detail::words_13a("a\xFFz") == Texts{"a\uFFFDz"});
}

TEST_CASE("chrF counts no n-grams of a hypothesis for which its reference is too short", "[text][metrics]") {
  const Chrf chrf = corpus_chrf(Texts{"abc", "x"}, Texts{"ab", "x yz"}, {.character_order = 3, .word_order = 1});
  REQUIRE(chrf.orders.size() == 4);
  const auto is = [&](std::size_t i, Index hypotheses, Index references, Index matches) {
    CAPTURE(i);
    CHECK(chrf.orders[i].hypotheses == hypotheses);
    CHECK(chrf.orders[i].references == references);
    CHECK(chrf.orders[i].matches == matches);
  };
  is(0, 4, 5, 3);
  is(1, 2, 3, 1);
  is(2, 0, 1, 0);  // "abc" has one, "ab" none
  is(3, 2, 3, 1);
}

TEST_CASE("text that is not UTF-8 is scored as if U+FFFD stood there", "[text][metrics]") {
  const Texts broken{"one two three fo\xC3ur \xE2\x82"}, mended{"one two three fo\uFFFDur \uFFFD"};
  CHECK(corpus_bleu(broken, mended).score == Approx(100));
  CHECK(corpus_chrf(broken, mended, {.word_order = 2}).score == Approx(100));
  CHECK(mean_rouge(broken, mended).rouge_2.f == Approx(1));
}

TEST_CASE("exact match leaves only outer white space aside", "[text][metrics]") {
  const auto match = [](const std::string& hypothesis, const std::string& reference) { return exact_match(Texts{hypothesis}, Texts{reference}) == 1; };
  CHECK(match("\u00a0 yes\n", "yes\u001c"));
  CHECK(match(" ", ""));
  CHECK_FALSE(match("yes", "Yes"));
  CHECK_FALSE(match("yes", "yes."));
  CHECK_FALSE(match("a b", "a  b"));
  CHECK_FALSE(match("\u00e9", "e\u0301"));
  CHECK_FALSE(match("yes\u200b", "yes"));
  CHECK(exact_match(Texts{"a", "b", "c", "d"}, std::vector<Texts>{{"x", "a"}, {"a"}, {"c", "c"}, {"D"}}) == 0.5);
}

TEST_CASE("metrics refuse hypotheses without references", "[text][metrics]") {
  const auto check_refused = [](const Texts& hypotheses, const References& references, const std::string& what) {
    CHECK_THROWS_WITH(corpus_bleu(hypotheses, references), Contains("BLEU" + what));
    CHECK_THROWS_WITH(corpus_chrf(hypotheses, references), Contains("chrF" + what));
    CHECK_THROWS_WITH(mean_rouge(hypotheses, references), Contains("ROUGE" + what));
    CHECK_THROWS_WITH(exact_match(hypotheses, references), Contains("exact match" + what));
  };
  check_refused({}, Texts{}, ": there are no hypotheses");
  check_refused({}, std::vector<Texts>{}, ": there are no hypotheses");
  check_refused({"a", "b", "c"}, Texts{"a", "b"}, ": the numbers of hypotheses and of references differ; expected references for 3 lines, got 2");
  check_refused({"a"}, std::vector<Texts>{{"a"}, {"b"}}, ": the numbers of hypotheses and of references differ; expected references for 1 line, got 2");
  check_refused({"a"}, Texts{}, ": the numbers of hypotheses and of references differ");
  check_refused({"a", "b"}, std::vector<Texts>{{"a"}, {}}, ": line 2: has no reference");
  CHECK_THROWS_WITH(corpus_chrf(Texts{"a"}, Texts{"a"}, {.character_order = 0}), Contains("chrF: both orders are 0"));
}

}  // namespace deltatune
