// Generation with an encoder-decoder, and beam search: what the caches hold is what full passes compute.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <map>
#include <string>
#include <vector>

#include "deltatune/attach/prefix_plan.hpp"
#include "deltatune/attach/prompt_plan.hpp"
#include "deltatune/model/generate.hpp"
#include "support/error_text.hpp"
#include "support/instances.hpp"
#include "support/tiny_gpt2.hpp"

using namespace deltatune;
using Catch::Contains;

namespace {

using X = test::DeviceTensor;
using Tokens = std::vector<std::int32_t>;

Transformer<X> small_t5(test::DeviceContext& ctx, const std::string& more = "") {
  Transformer<X> model(ctx,
                       family::t5(JsonConfig::parse(R"({"model_type": "t5", "vocab_size": 20, "d_model": 12, "d_kv": 3, "d_ff": 10, "num_layers": 1,
      "num_heads": 2, "num_decoder_layers": 2, "relative_attention_num_buckets": 6, "relative_attention_max_distance": 5, "pad_token_id": 0,
      "eos_token_id": 1, "initializer_factor": 1.0)" + more +
                                                        "}",
                                                    "config.json")),
                       Head::language_model());
  model.architecture().initializer_range = 0.4;
  model.initialise(ctx, 3);
  return model;
}

// Draws values anew that some methods start at 0.
void draw_deltas(Transformer<X>& model, double spread) {
  std::uint64_t stream = 0;
  test::DeviceContext ctx(1);
  model.visit([&](Parameter<X>& parameter) {
    if (parameter.role() != Role::delta) return;
    std::vector<float> values;
    for (Index i = 0; i < parameter.value().size(); ++i)
      values.push_back(static_cast<float>(spread * normal(derive(9, stream), static_cast<std::uint64_t>(i))));
    ++stream;
    test::from_host<X>(ctx, values, parameter.value());
  });
}

const std::vector<Tokens> kSources{{4, 8, 15, 16, 3, 9, 1}, {3}, {7, 12, 11, 5}, {18, 2}, {6, 6, 13, 14, 2}};

PackedBatch packed_texts(const std::vector<Tokens>& texts) {
  PackedBatch batch;
  for (const Tokens& text : texts) batch.add(text);
  return batch;
}

// ln p of the next token, from a pass over all of a text, without a cache.
std::vector<double> next_log_probabilities(test::DeviceContext& ctx, Transformer<X>& model, const Tokens& source, const Tokens& text) {
  Workspace<test::Device> saved(ctx), scratch(ctx);
  Pass<X> pass{ctx, saved, scratch};
  PackedBatch batch = packed_texts({text});
  if (!source.empty()) batch.source = {packed_texts({source})};
  DeviceBatch<X> device(ctx);
  device.upload(batch, false, model.layout());
  Transformer<X>::Activations kept;
  const View<float> logits = pass.keep(batch.rows(), model.architecture().vocab_size);
  model.forward(pass, device, logits, kept);
  std::vector<double> result;
  double sum = 0;
  for (const float score : test::on_host<X>(ctx, logits.row_range(logits.rows - 1, 1))) {
    result.push_back(static_cast<double>(score));
    sum += std::exp(result.back());
  }
  for (double& score : result) score -= std::log(sum);
  return result;
}

// Every text of at most so many new tokens with its score, best first.
std::vector<Continuation> all_texts(test::DeviceContext& ctx, Transformer<X>& model, const Tokens& source, const Tokens& start, Index longest, double penalty) {
  std::vector<Continuation> open{{}}, all;
  for (Index length = 1; length <= longest; ++length) {
    std::vector<Continuation> longer;
    for (const Continuation& known : open) {
      Tokens text = start;
      text.insert(text.end(), known.tokens.begin(), known.tokens.end());
      const std::vector<double> next = next_log_probabilities(ctx, model, source, text);
      for (std::size_t token = 0; token < next.size(); ++token) {
        Continuation one{.tokens = known.tokens, .score = known.score + next[token]};
        one.tokens.push_back(static_cast<std::int32_t>(token));
        if (token == 1 || length == longest) {
          one.score /= std::pow(static_cast<double>(length), penalty);
          all.push_back(one);
        } else {
          longer.push_back(one);
        }
      }
    }
    open = std::move(longer);
  }
  std::sort(all.begin(), all.end(), [](const Continuation& a, const Continuation& b) { return a.score > b.score; });
  return all;
}

}  // namespace

TEST_CASE("an encoder-decoder writes what full passes find likeliest", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  SECTION("alone") {}
  SECTION("behind prefixes in the encoder, the decoder and cross-attention") {
    PrefixPlan plan;
    plan.prefix.rows = 3;
    attach(ctx, model, plan, 5);
    draw_deltas(model, 1.0);
  }
  SECTION("behind a prefix that biases take for tokens") {
    PrefixPlan plan = PrefixPlan::of_peft();
    plan.prefix.rows = 2;
    attach(ctx, model, plan, 5);
    draw_deltas(model, 1.0);
  }
  SECTION("behind a prompt of the encoder") {
    PromptPlan plan;
    plan.prompt.rows = 2;
    attach(ctx, model, plan, 5);
  }
  std::vector<Tokens> expected;
  for (const Tokens& source : kSources) {
    Tokens text{0};
    for (int i = 0; i < 8; ++i) {
      const std::vector<double> next = next_log_probabilities(ctx, model, source, text);
      text.push_back(static_cast<std::int32_t>(std::max_element(next.begin(), next.end()) - next.begin()));
    }
    expected.emplace_back(text.begin() + 1, text.end());
  }
  CHECK(std::count(expected.begin(), expected.end(), expected[0]) < 5);  // sources matter
  for (const auto& [at_once, rows] : std::vector<std::pair<Index, Index>>{{16, 2048}, {2, 2048}, {16, 8}, {3, 1}}) {
    CAPTURE(at_once, rows);
    const std::vector<Continuation> texts =
        generate(ctx, model, packed_texts(kSources), {.max_new_tokens = 8, .stops_at_end = false, .max_sequences = at_once, .prefill_rows = rows});
    for (std::size_t b = 0; b < kSources.size(); ++b) CHECK(texts[b].tokens == expected[b]);
  }
}

TEST_CASE("a decoder may begin with tokens of the caller's", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  PackedBatch batch = packed_texts({{0, 7, 9}, {0, 12}});
  batch.source = {packed_texts({kSources[0], kSources[2]})};
  const std::vector<Continuation> texts = generate(ctx, model, batch, {.max_new_tokens = 4, .stops_at_end = false, .prefill_rows = 2});
  for (std::size_t b = 0; b < 2; ++b) {
    Tokens text = b == 0 ? Tokens{0, 7, 9} : Tokens{0, 12};
    for (const std::int32_t token : texts[b].tokens) {
      const std::vector<double> next = next_log_probabilities(ctx, model, kSources[2 * b], text);
      CHECK(token == static_cast<std::int32_t>(std::max_element(next.begin(), next.end()) - next.begin()));
      text.push_back(token);
    }
  }
}

TEST_CASE("beams that are wide enough find the best of all texts", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  for (const double penalty : {0.0, 1.0, 2.0}) {
    CAPTURE(penalty);
    const GenerationConfig config{.max_new_tokens = 3, .num_beams = 400, .length_penalty = penalty, .early_stopping = EarlyStopping::never, .max_sequences = 1};
    const std::vector<std::vector<Continuation>> found = beam_search(ctx, model, packed_texts({kSources[0], kSources[3]}), config);
    for (std::size_t b = 0; b < 2; ++b) {
      const std::vector<Continuation> all = all_texts(ctx, model, kSources[3 * b], {0}, 3, penalty);
      REQUIRE(found[b].size() == 400);
      for (std::size_t i = 0; i < 10; ++i) {
        CHECK(found[b][i].tokens == all[i].tokens);
        CHECK(found[b][i].score == Approx(all[i].score).margin(1e-4));
      }
    }
  }
}

TEST_CASE("beams go on with texts of a decoder", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = test::tiny_gpt2(ctx);
  const std::vector<Tokens> prompts{{1, 2, 3, 4}, {9}, {5, 6, 7, 8, 9, 10}};
  GenerationConfig config{.max_new_tokens = 4, .stops_at_end = false, .num_beams = 3};
  const std::vector<Continuation> together = generate(ctx, model, packed_texts(prompts), config);
  config.max_sequences = 1;
  config.prefill_rows = 2;
  const std::vector<Continuation> apart = generate(ctx, model, packed_texts(prompts), config);
  for (std::size_t b = 0; b < prompts.size(); ++b) {
    CHECK(together[b].tokens == apart[b].tokens);
    double score = 0;
    Tokens text = prompts[b];
    for (const std::int32_t token : together[b].tokens) {
      score += next_log_probabilities(ctx, model, {}, text)[static_cast<std::size_t>(token)];
      text.push_back(token);
    }
    CHECK(together[b].score == Approx(score / 4).margin(1e-4));
  }
}

TEST_CASE("with beams a caller sees the tokens of a text when it is complete", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  const GenerationConfig config{.max_new_tokens = 5, .stops_at_end = false, .num_beams = 2};
  const std::vector<Continuation> whole = generate(ctx, model, packed_texts(kSources), config);
  std::map<Index, Tokens> seen;
  const std::vector<Continuation> cut = generate(ctx, model, packed_texts(kSources), config, [&](Index sequence, std::int32_t token) {
    seen[sequence].push_back(token);
    return seen[sequence].size() < 3;
  });
  for (std::size_t b = 0; b < kSources.size(); ++b) {
    CHECK(cut[b].tokens == Tokens(whole[b].tokens.begin(), whole[b].tokens.begin() + 3));
    CHECK(cut[b].end == Continuation::End::caller);
    CHECK(seen[static_cast<Index>(b)] == cut[b].tokens);
  }
}

TEST_CASE("of several prompts of the encoder each source has its own", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  PromptPlan plan;
  plan.prompt.rows = 3;
  plan.prompt.prompts = 2;
  attach(ctx, model, plan, 5);
  draw_deltas(model, 1.0);
  const auto tokens = [&](const std::vector<std::int32_t>& prompts, Index beams) {
    PackedBatch batch = packed_texts(kSources);
    batch.prompts = prompts;
    std::vector<Tokens> all;
    for (const Continuation& text : generate(ctx, model, batch, {.max_new_tokens = 5, .stops_at_end = false, .num_beams = beams})) all.push_back(text.tokens);
    return all;
  };
  for (const Index beams : {1, 2}) {
    const std::vector<Tokens> firsts = tokens({}, beams), seconds = tokens({1, 1, 1, 1, 1}, beams), mixed = tokens({0, 1, 1, 0, 1}, beams);
    CHECK(firsts != seconds);
    CHECK(mixed == std::vector<Tokens>{firsts[0], seconds[1], seconds[2], firsts[3], seconds[4]});
  }
}

TEST_CASE("a decoder starts with the token that the settings name", "[model][generate]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  const auto tokens = [&](const PackedBatch& batch, const GenerationConfig& config) {
    std::vector<Tokens> all;
    for (const Continuation& text : generate(ctx, model, batch, config)) all.push_back(text.tokens);
    return all;
  };
  PackedBatch begun = packed_texts(std::vector<Tokens>(kSources.size(), Tokens{7}));
  begun.source = {packed_texts(kSources)};
  for (const Index beams : {1, 2}) {
    const GenerationConfig plain{.max_new_tokens = 5, .stops_at_end = false, .num_beams = beams};
    GenerationConfig named = plain;
    named.decoder_start_token_id = 7;
    CHECK(tokens(packed_texts(kSources), named) == tokens(begun, plain));
    CHECK(tokens(packed_texts(kSources), named) != tokens(packed_texts(kSources), plain));
    named.decoder_start_token_id = model.architecture().start_id;
    CHECK(tokens(packed_texts(kSources), named) == tokens(packed_texts(kSources), plain));
  }
}

TEST_CASE("mistakes in what an encoder-decoder is to write", "[model][generate][errors]") {
  test::DeviceContext ctx(1);
  Transformer<X> model = small_t5(ctx);
  const auto with = [&](const PackedBatch& batch, const GenerationConfig& config) { generate(ctx, model, batch, config); };
  PackedBatch apart = packed_texts({{0}, {0}});
  apart.source = {packed_texts({kSources[0]})};
  CHECK_THROWS_WITH(with(apart, {}), Contains("one source text per sequence; expected 2, got 1"));
  CHECK_THROWS_WITH(with(packed_texts(kSources), {.decoder_start_token_id = 20}), Contains("decoder_start_token_id") && Contains("below 20"));
  CHECK_THROWS_WITH(with(packed_texts(kSources), {.forced_bos_token_id = 20}), Contains("forced_bos_token_id") && Contains("below 20"));
  CHECK_THROWS_WITH(with(packed_texts(kSources), {.end_ids = {25}}), Contains("end_ids"));
  CHECK_THROWS_WITH(with(packed_texts(kSources), {.temperature = 1, .num_beams = 2}), Contains("beam search, which draws nothing"));
  CHECK_THROWS_WITH(with(packed_texts(kSources), {.max_new_tokens = 2, .min_new_tokens = 3}), Contains("min_new_tokens"));
  CHECK_THROWS_WITH(with(packed_texts(kSources), {.max_new_tokens = 50, .stops_at_end = false, .no_repeat_ngram_size = 1}), Contains("leaves no token"));
  GenerationMemory<Transformer<X>> memory;
  CHECK_THROWS_WITH(generate(ctx, model, packed_texts({kSources[0]}), {}, {}, &memory), Contains("a memory, which is for decoders without beams"));
  Transformer<X> without = small_t5(ctx);
  without.architecture().start_id = -1;
  CHECK_THROWS_WITH(generate(ctx, without, packed_texts(kSources), {}),
                    Contains("no token that its decoder starts with") && Contains("decoder_start_token_id"));
  CHECK_NOTHROW(generate(ctx, without, packed_texts(kSources), {.decoder_start_token_id = 0}));
}

namespace {

// What a step of a beam search asks of the text that is read: a prompt of one token, and 9 ends a text.
struct ReadingOfOne {
  GenerationConfig settings;
  PackedBatch prompt = packed_texts({{1}});
  const GenerationConfig& config() const { return settings; }
  const PackedBatch& prompts() const { return prompt; }
  bool is_end(std::int32_t token) const { return token == 9; }
};

}  // namespace

TEST_CASE("beam search: when a search with enough finished texts ends", "[model][generate][beams]") {
  // Two texts with a score of -2 are finished; the best beam has -3 with `length` new tokens.
  const auto ends = [](EarlyStopping early_stopping, double length_penalty, std::size_t length) {
    detail::BeamSearch search;
    search.finished = {{.tokens = {9}, .score = -2}, {.tokens = {9}, .score = -2}};
    const std::vector<detail::RunningSequence> beams(2, detail::RunningSequence{.tokens = Tokens(length, 1)});
    const ReadingOfOne reading{{.max_new_tokens = 10, .num_beams = 2, .length_penalty = length_penalty, .early_stopping = early_stopping}};
    CHECK(search.advance(reading, beams, {{0, 1, -3}, {1, 2, -4}, {1, 3, -5}}).size() == 2);
    return search.ended;
  };
  CHECK(ends(EarlyStopping::no, 1, 1));           // -3 / 1
  CHECK_FALSE(ends(EarlyStopping::no, 1, 2));     // -3 / 2
  CHECK(ends(EarlyStopping::no, 0.5, 2));         // -3 / sqrt(2) = -2.12
  CHECK_FALSE(ends(EarlyStopping::no, 0.5, 3));   // -1.73
  CHECK_FALSE(ends(EarlyStopping::never, 1, 1));  // -3 / 10 is what it may come to
  CHECK(ends(EarlyStopping::never, 0, 2));        // a longer text does not get better: as `no`
  CHECK(ends(EarlyStopping::yes, 1, 2));
}
