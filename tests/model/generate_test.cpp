// Generation: the cache gives what a full pass gives, and tokens are chosen as the options say.
#include "deltatune/model/generate.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "deltatune/attach/lora_plan.hpp"
#include "deltatune/model/generation_file.hpp"
#include "deltatune/ops/prefix.hpp"
#include "support/error_text.hpp"
#include "support/temporary_folder.hpp"
#include "support/tiny_gpt2.hpp"

using namespace deltatune;

namespace {

using X = test::DeviceTensor;
using Tokens = std::vector<std::int32_t>;

// Without a cache: everything again for each token.
Tokens greedy_by_hand(test::DeviceContext& ctx, Gpt2<X>& model, Tokens tokens, Index count) {
  Tokens found;
  Workspace<test::Device> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  Gpt2<X>::Activations kept;
  for (Index i = 0; i < count; ++i) {
    PackedBatch batch;
    batch.add(tokens);
    device.upload(batch, false, model.layout());
    const Index rows = device.token_count();  // a prompt has no logits
    Pass<X> pass{ctx, saved, scratch};
    const WorkspaceScope<test::Device> all(saved);
    const View<float> logits = pass.keep(rows, model.architecture().vocab_size);
    model.forward(pass, device, logits, kept);
    const std::vector<float> last = test::on_host<X>(ctx, logits.row_range(rows - 1, 1));
    found.push_back(static_cast<std::int32_t>(std::max_element(last.begin(), last.end()) - last.begin()));
    tokens.push_back(found.back());
  }
  return found;
}

// Rows of its own for every sequence: of keys and values, or at the input.
class Rows {
 public:
  struct Saved {};

  Rows(test::DeviceContext& ctx, Index count, Index width, InputRows kind, std::uint64_t seed) : rows_(ctx, {count, width}), kind_(kind) {
    std::vector<float> host;
    for (Index i = 0; i < count * width; ++i) host.push_back(static_cast<float>(normal(derive(seed), static_cast<std::uint64_t>(i))));
    test::from_host<X>(ctx, host, rows_.view());
    kind_.count = count;
  }
  template <class F>
  void visit(const F&) {}
  bool needs_input() const { return false; }
  void backward(Pass<X>&, const Saved&, View<const float>) {}

 protected:
  X rows_;  // (P, C)
  InputRows kind_;
};
struct OwnPrompt : Rows {
  using Rows::Rows;
  InputRows rows() const { return kind_; }
  void forward(Pass<X>& pass, View<float> rows, Saved&) const { ops::broadcast_rows<test::Device, float>(pass.ctx, rows_.view(), rows); }
};
struct OwnPrefix : Rows {
  using Rows::Rows;
  Index rows() const { return kind_.count; }
  void forward(Pass<X>& pass, View<const float>, View<float> kv, Saved&) const { ops::broadcast_rows<test::Device, float>(pass.ctx, rows_.view(), kv); }
  void backward(Pass<X>&, const Saved&, View<const float>, View<const float>, GradientSink<float>&) {}
};
struct Shift {
  template <class F>
  void visit(const F&) {}
  Index position_shift() const { return 2; }
};

// Lengths 3, 1, 6, 2, 4.
const std::vector<Tokens> kPrompts{{1, 2, 3}, {4}, {5, 6, 7, 8, 9, 10}, {11, 4}, {2, 2, 20, 21}};

PackedBatch packed_prompts() {
  PackedBatch batch;
  for (const Tokens& prompt : kPrompts) batch.add(prompt);
  return batch;
}

// Many at once and each alone give the same tokens, whatever waits and whatever is read in pieces. Returns those tokens.
std::vector<Tokens> check_many(test::DeviceContext& ctx, Gpt2<X>& model, GenerationConfig config) {
  std::vector<Tokens> alone;
  const std::uint64_t seed = config.seed;
  for (const Tokens& prompt : kPrompts) {
    alone.push_back(generate(ctx, model, prompt, config));
    ++config.seed;
  }
  config.seed = seed;
  for (const auto& [at_once, rows] : std::vector<std::pair<Index, Index>>{{16, 2048}, {2, 2048}, {16, 4}, {3, 2}, {1, 1}}) {
    CAPTURE(at_once, rows);
    config.max_sequences = at_once;
    config.prefill_rows = rows;
    std::vector<Tokens> seen(kPrompts.size());
    const std::vector<Continuation> together = generate(ctx, model, packed_prompts(), config, [&](Index sequence, std::int32_t token) {
      seen[static_cast<std::size_t>(sequence)].push_back(token);
      return true;
    });
    REQUIRE(together.size() == kPrompts.size());
    for (std::size_t b = 0; b < kPrompts.size(); ++b) {
      CHECK(together[b].tokens == alone[b]);
      CHECK(seen[b] == alone[b]);
    }
  }
  return alone;
}

std::vector<double> distribution(const std::vector<double>& probabilities, const GenerationConfig& config) {
  std::vector<double> logits;
  for (const double p : probabilities) logits.push_back(std::log(p) + 3.0);
  return next_token_distribution<double>(logits, config);
}

void check_close(const std::vector<double>& got, const std::vector<double>& expected) {
  REQUIRE(got.size() == expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(1e-12));
}

}  // namespace

TEST_CASE("greedy generation with the cache is the argmax of full passes", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  for (const Tokens& prompt : {Tokens{4}, Tokens{1, 2, 3, 4, 5}, Tokens{7, 7, 9}}) {
    const Index count = 17 - static_cast<Index>(prompt.size());  // the last position is used
    Tokens seen;
    const Tokens tokens = generate(ctx, model, prompt, {.max_new_tokens = count, .stops_at_end = false}, [&](std::int32_t token) { seen.push_back(token); });
    CHECK(tokens == greedy_by_hand(ctx, model, prompt, count));
    CHECK(seen == tokens);
    CHECK(static_cast<Index>(tokens.size()) == count);
  }
}

TEST_CASE("the cache gives the same with deltas in front of the tokens", "[model][generate]") {
  test::DeviceContext ctx(1);
  const auto check = [&](const auto& attach) {
    Gpt2<X> model = test::tiny_gpt2(ctx);
    const Tokens before = generate(ctx, model, Tokens{1, 2, 3}, {.max_new_tokens = 8, .stops_at_end = false});
    attach(model);
    const Tokens tokens = generate(ctx, model, Tokens{1, 2, 3}, {.max_new_tokens = 8, .stops_at_end = false});
    CHECK(tokens == greedy_by_hand(ctx, model, {1, 2, 3}, 8));
    CHECK(tokens != before);
  };
  const auto add_prefix = [&](Gpt2<X>& model) {
    std::uint64_t seed = 0;
    model.visit_attentions([&](KvSite<X>& site) { site.deltas.add("prefix", OwnPrefix(ctx, 3, 2 * site.width, {}, ++seed)); });
  };
  SECTION("prompt like words") {
    check([&](Gpt2<X>& model) { model.input().deltas.add("prompt", OwnPrompt(ctx, 4, 12, {.like_words = true}, 1)); });
  }
  SECTION("prompt of finished embeddings, behind the first token") {
    check([&](Gpt2<X>& model) { model.input().deltas.add("prompt", OwnPrompt(ctx, 4, 12, {.like_words = false, .after_first = true}, 1)); });
  }
  SECTION("prefix") { check(add_prefix); }
  SECTION("prefix that counts as positions, and a prompt") {
    check([&](Gpt2<X>& model) {
      add_prefix(model);
      model.derived().add("prefix", Shift{});
      model.input().deltas.add("prompt", OwnPrompt(ctx, 2, 12, {.like_words = true}, 1));
    });
  }
}

TEST_CASE("generation ends behind the end-of-text token", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  const Tokens whole = generate(ctx, model, Tokens{1, 2, 3}, {.max_new_tokens = 8, .stops_at_end = false});
  model.architecture().eos_ids = {whole[3]};
  const auto end = std::find(whole.begin(), whole.end(), whole[3]) + 1;
  CHECK(generate(ctx, model, Tokens{1, 2, 3}, {.max_new_tokens = 8}) == Tokens(whole.begin(), end));
}

TEST_CASE("generation: mistakes are refused", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  CHECK_THAT(test::error_text([&] { generate(ctx, model, Tokens{1, 2, 3}, {.max_new_tokens = 15}); }), Catch::Contains("at most 17 tokens, got 18"));
  CHECK_THROWS_AS(generate(ctx, model, Tokens{}, {}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.max_new_tokens = 0}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.temperature = -1}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.top_k = -1}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.top_p = 0}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.min_p = 1.5}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.repetition_penalty = 0}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.max_sequences = 0}), Error);
  CHECK_THROWS_AS(generate(ctx, model, Tokens{1}, {.prefill_rows = 0}), Error);
  GenerationMemory<Gpt2<X>> memory;
  CHECK_THAT(test::error_text([&] { generate(ctx, model, packed_prompts(), {.max_new_tokens = 1}, {}, &memory); }),
             Catch::Contains("memory for one sequence; got 5"));
  Gpt2<X> classifier = test::tiny_gpt2(ctx, Head::classifier(3));
  CHECK_THROWS_AS(generate(ctx, classifier, Tokens{1}, {}), Error);
}

TEST_CASE("what is drawn from: temperature, then the likeliest k, then the likeliest that have p together", "[model][generate]") {
  const std::vector<double> p{0.1, 0.4, 0.05, 0.25, 0.2};
  check_close(distribution(p, {.temperature = 1}), p);
  check_close(distribution(p, {.temperature = 0.5}), {0.01 / 0.275, 0.16 / 0.275, 0.0025 / 0.275, 0.0625 / 0.275, 0.04 / 0.275});
  check_close(distribution(p, {.temperature = 1, .top_k = 1}), {0, 1, 0, 0, 0});
  check_close(distribution(p, {.temperature = 1, .top_k = 3}), {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85});
  check_close(distribution(p, {.temperature = 1, .top_k = 9}), p);
  check_close(distribution(p, {.temperature = 1, .top_p = 0.3}), {0, 1, 0, 0, 0});
  check_close(distribution(p, {.temperature = 1, .top_p = 0.41}), {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});
  check_close(distribution(p, {.temperature = 1, .top_p = 0.8}), {0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85});
  check_close(distribution(p, {.temperature = 1, .top_k = 3, .top_p = 0.7}), {0, 0.4 / 0.65, 0, 0.25 / 0.65, 0});             // of what top-k has left
  check_close(distribution({0.25, 0.25, 0.3, 0.2}, {.temperature = 1, .top_k = 2}), {0.25 / 0.8, 0.25 / 0.8, 0.3 / 0.8, 0});  // as likely as the second
}

TEST_CASE("tokens are drawn as often as they are likely, the same ones for a seed", "[model][generate]") {
  const std::vector<double> logits{std::log(0.1), std::log(0.6), std::log(0.3)};
  std::vector<double> share(3, 0.0);
  constexpr int kDraws = 20000;
  for (int seed = 0; seed < kDraws; ++seed)
    share[static_cast<std::size_t>(choose_token<double>(logits, {.temperature = 1}, static_cast<std::uint64_t>(seed), 4))] += 1.0 / kDraws;
  CHECK(share[0] == Approx(0.1).margin(0.01));
  CHECK(share[1] == Approx(0.6).margin(0.015));

  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  const auto draw = [&](std::uint64_t seed) {
    return generate(ctx, model, Tokens{1, 2, 3}, {.max_new_tokens = 12, .temperature = 1.5, .top_k = 20, .top_p = 0.95, .seed = seed, .stops_at_end = false});
  };
  CHECK(draw(1) == draw(1));
  CHECK(draw(1) != draw(2));
}

TEST_CASE("many prompts at once give what each gives alone", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  const std::vector<Tokens> greedy = check_many(ctx, model, {.max_new_tokens = 9, .stops_at_end = false});
  for (std::size_t b = 0; b < kPrompts.size(); ++b) CHECK(greedy[b] == greedy_by_hand(ctx, model, kPrompts[b], 9));
  check_many(ctx, model, {.max_new_tokens = 9, .temperature = 1.5, .top_p = 0.95, .seed = 7, .stops_at_end = false, .min_p = 0.01, .repetition_penalty = 1.2});
  CHECK(generate(ctx, model, PackedBatch(), {}).empty());

  SECTION("sequences that end early leave the others alone") {
    GenerationConfig drawn{.max_new_tokens = 9, .temperature = 1, .seed = 4, .stops_at_end = false};
    const std::vector<Tokens> whole = check_many(ctx, model, drawn);
    const std::vector<std::int32_t> ends{whole[0][2], whole[2][5]};
    drawn.stops_at_end = true;
    drawn.end_ids = ends;
    const std::vector<Tokens> cut = check_many(ctx, model, drawn);
    const std::vector<Continuation> reasons = generate(ctx, model, packed_prompts(), drawn);
    bool some_end = false, some_do_not = false;
    for (std::size_t b = 0; b < kPrompts.size(); ++b) {
      auto end = whole[b].begin();
      while (end != whole[b].end() && *end != ends[0] && *end != ends[1]) ++end;
      const bool ended = end != whole[b].end();
      CHECK(cut[b] == Tokens(whole[b].begin(), ended ? end + 1 : end));
      CHECK(reasons[b].end == (ended ? Continuation::End::end_token : Continuation::End::length));
      some_end = some_end || (ended && cut[b].size() < 9);
      some_do_not = some_do_not || !ended;
    }
    CHECK(some_end);
    CHECK(some_do_not);
  }
  SECTION("and so do those that the caller ends") {
    const std::vector<Continuation> ended =
        generate(ctx, model, packed_prompts(), {.max_new_tokens = 9, .stops_at_end = false}, [](Index sequence, std::int32_t) { return sequence % 2 == 0; });
    for (std::size_t b = 0; b < kPrompts.size(); ++b) {
      CHECK(ended[b].tokens == (b % 2 == 0 ? greedy[b] : Tokens{greedy[b][0]}));
      CHECK(ended[b].end == (b % 2 == 0 ? Continuation::End::length : Continuation::End::caller));
    }
  }
  SECTION("a prompt that is too long is named") {
    CHECK_THAT(test::error_text([&] { generate(ctx, model, packed_prompts(), {.max_new_tokens = 12}); }),
               Catch::Contains("prompt 3") && Catch::Contains("at most 17 tokens, got 18"));
  }
}

TEST_CASE("many prompts at once, with deltas", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  const GenerationConfig config{.max_new_tokens = 6, .stops_at_end = false};
  const std::vector<Tokens> before = check_many(ctx, model, config);
  const auto check = [&](std::size_t least = 1) {
    const std::vector<Tokens> tokens = check_many(ctx, model, config);
    CHECK(tokens != before);
    for (std::size_t b = 0; b < kPrompts.size(); ++b)
      if (kPrompts[b].size() >= least) CHECK(tokens[b] == greedy_by_hand(ctx, model, kPrompts[b], 6));
  };
  SECTION("a prefix of another length in each layer") {
    Index rows = 1;
    model.visit_attentions([&](KvSite<X>& site) {
      site.deltas.add("prefix", OwnPrefix(ctx, rows, 2 * site.width, {}, static_cast<std::uint64_t>(rows)));
      rows += 2;
    });
    check();
  }
  SECTION("a prompt like words") {
    model.input().deltas.add("prompt", OwnPrompt(ctx, 4, 12, {.like_words = true}, 1));
    check();
  }
  SECTION("a prompt behind the first token, and a prefix") {
    model.visit_attentions([&](KvSite<X>& site) { site.deltas.add("prefix", OwnPrefix(ctx, 2, 2 * site.width, {}, 3)); });
    model.input().deltas.add("prompt", OwnPrompt(ctx, 2, 12, {.like_words = false, .after_first = true}, 1));
    check(2);  // behind a single token the rows of the prompt are last, and the full pass has no scores for them
  }
  SECTION("LoRA") {
    LoraPlan plan;
    plan.lora = {.rank = 4, .alpha = 32};
    plan.targets.all_linear = true;
    auto attached = attach(ctx, model, plan);
    std::uint64_t stream = 0;
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.role() != Role::delta) return;
      std::vector<float> host;
      for (Index i = 0; i < parameter.size(); ++i) host.push_back(0.3F * static_cast<float>(normal(derive(5, stream), static_cast<std::uint64_t>(i))));
      ++stream;
      test::from_host<X>(ctx, host, parameter.value());
    });
    check();
  }
}

TEST_CASE("a conversation is read from where it is new", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  SECTION("alone") {}
  SECTION("behind a prompt and prefixes") {
    model.input().deltas.add("prompt", OwnPrompt(ctx, 2, 12, {.like_words = false, .after_first = true}, 1));
    model.visit_attentions([&](KvSite<X>& site) { site.deltas.add("prefix", OwnPrefix(ctx, 3, 2 * site.width, {}, 3)); });
  }
  GenerationMemory<Gpt2<X>> memory;
  const auto answer = [&](const Tokens& tokens, Index count) {
    PackedBatch batch;
    batch.add(tokens);
    const GenerationConfig config{.max_new_tokens = count, .stops_at_end = false};
    const Tokens told = generate(ctx, model, batch, config, {}, &memory).front().tokens;
    CHECK(told == greedy_by_hand(ctx, model, tokens, count));
    return told;
  };
  const auto recalls = [&](const Tokens& tokens, Index expected) {
    CHECK(memory.recall(ctx, model, tokens, 1, 17) == expected);
    memory.keep({tokens.begin(), tokens.begin() + expected});
  };

  Tokens talk{1, 2, 3};
  for (const std::int32_t token : answer(talk, 2)) talk.push_back(token);
  talk.push_back(6);
  answer(talk, 4);  // more than the cache has room for
  answer({1, 2, 7, 8}, 3);
  answer({1, 2, 7, 8}, 2);  // the same once more
  answer({5, 9, 4}, 2);     // all else
  answer({5, 9, 4, 1}, 8);
  answer({5, 9, 4, 1, 2}, 3);
  recalls({5, 9, 4, 1, 2, 20}, 5);
  recalls({5, 9, 4, 1, 2}, 4);
  recalls({5, 9, 4, 7}, 3);
  answer({5, 9, 4, 7, 8}, 3);
  recalls({6, 9}, 0);
}

TEST_CASE("scores with the cache are those of full passes", "[model][generate]") {
  test::DeviceContext ctx(1);
  Gpt2<X> model = test::tiny_gpt2(ctx);
  Workspace<test::Device> saved(ctx), scratch(ctx);
  DeviceBatch<X> device(ctx);
  Gpt2<X>::Activations kept;
  auto cache = model.make_cache(ctx, 4, 9);
  const Index words = model.architecture().vocab_size;
  const std::vector<Tokens> texts{{1, 2, 3, 4, 5, 6, 7}, {8, 9, 10, 11, 12, 13, 14, 15, 16}, {17, 18, 19, 20}};
  std::vector<std::size_t> read(texts.size(), 0);
  // Reads so many tokens more of some texts, in the slots 3, 1 and 0.
  const auto pass_over = [&](const std::vector<std::size_t>& which, const std::vector<std::size_t>& counts) {
    PackedBatch batch, whole;
    std::vector<Index> slots;
    const bool begins = read[which[0]] == 0;
    for (std::size_t i = 0; i < which.size(); ++i) {
      const std::size_t t = which[i];
      batch.add(std::span(texts[t]).subspan(read[t], counts[i]));
      for (std::size_t r = batch.ids.size() - counts[i]; r < batch.ids.size(); ++r) batch.positions[r] += static_cast<std::int32_t>(read[t]);
      read[t] += counts[i];
      whole.add(std::span(texts[t]).first(read[t]));
      slots.push_back(std::vector<Index>{3, 1, 0}[t]);
    }
    std::vector<float> got, expected;
    {
      const WorkspaceScope<test::Device> all(saved);
      Pass<X> pass{ctx, saved, scratch};
      device.upload(batch, false, begins ? model.layout() : model.layout_behind());
      const View<float> logits = pass.keep(batch.count(), words);
      model.continue_sequences(pass, device, slots, logits, kept, cache);
      got = test::on_host<X>(ctx, logits);
    }
    {
      const WorkspaceScope<test::Device> all(saved);
      Pass<X> pass{ctx, saved, scratch};
      device.upload(whole, false, model.layout());
      const View<float> logits = pass.keep(whole.rows(), words);
      model.forward(pass, device, logits, kept);
      for (Index b = 0; b < whole.count(); ++b) {
        const std::vector<float> last = test::on_host<X>(ctx, logits.row_range(whole.offsets[static_cast<std::size_t>(b) + 1] - 1, 1));
        expected.insert(expected.end(), last.begin(), last.end());
      }
    }
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).margin(2e-5));
  };
  pass_over({0, 1}, {2, 4});
  pass_over({2}, {1});
  pass_over({1, 2, 0}, {2, 1, 3});
  pass_over({2, 0}, {1, 1});
  pass_over({0, 1, 2}, {1, 1, 1});
  CHECK(cache.text.rows(1) == 7);

  const auto append = [&](const std::vector<Index>& slots, const std::vector<Index>& counts) { cache.text.append(ctx, slots, counts); };
  CHECK_THROWS_WITH(append({1}, {3}), Catch::Contains("is full") && Catch::Contains("at most 9 rows"));
  CHECK_THROWS_WITH(append({1, 2}, {1, 1}), Catch::Contains("some begin and some go on"));
  CHECK(cache.text.rows(1) == 7);
}

TEST_CASE("what is drawn from is what transformers' logits processors leave", "[model][generate]") {
  std::ifstream file(std::filesystem::path(DELTATUNE_TEST_DIR) / "data/next_token.json");
  const nlohmann::json goldens = nlohmann::json::parse(file);
  REQUIRE(goldens.at("cases").size() == 28);
  for (const nlohmann::json& golden : goldens.at("cases")) {
    CAPTURE(golden.at("settings").dump());
    const nlohmann::json& settings = golden.at("settings");
    const GenerationConfig config{.temperature = settings.value("temperature", 1.0),
                                  .top_k = settings.value("top_k", Index{0}),
                                  .top_p = settings.value("top_p", 1.0),
                                  .min_p = settings.value("min_p", 0.0),
                                  .repetition_penalty = settings.value("repetition_penalty", 1.0)};
    std::vector<float> scores = golden.at("scores");
    penalise_repetition<float>(scores, golden.at("tokens").get<Tokens>(), config.repetition_penalty);
    std::vector<double> got = next_token_distribution<float>(scores, config), expected = golden.at("probabilities");
    const bool has_ties = golden.at("scores")[0] == golden.at("scores")[2];
    if (has_ties) {  // which of them top-p leaves is by chance there
      std::sort(got.begin(), got.end());
      std::sort(expected.begin(), expected.end());
    }
    REQUIRE(got.size() == expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) CHECK(got[i] == Approx(expected[i]).epsilon(1e-5).margin(1e-12));
  }
}

TEST_CASE("top-p of a large vocabulary", "[model][generate]") {
  std::vector<float> scores;
  for (std::uint64_t i = 0; i < 5000; ++i) scores.push_back(static_cast<float>(normal(derive(3), i)));
  for (const double top_p : {0.001, 0.2, 0.7, 0.99}) {
    CAPTURE(top_p);
    const std::vector<double> all = next_token_distribution<float>(scores, {.temperature = 1}),
                              cut = next_token_distribution<float>(scores, {.temperature = 1, .top_p = top_p});
    double kept = 0, least = 1, most_left_out = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (cut[i] > 0) kept += all[i];
      if (cut[i] > 0) least = std::min(least, all[i]);
      if (cut[i] == 0) most_left_out = std::max(most_left_out, all[i]);
    }
    CHECK(kept >= top_p);
    CHECK(kept - least < top_p);
    CHECK(most_left_out <= least);
  }
  scores[7] = std::numeric_limits<float>::infinity();
  CHECK_THROWS_WITH(likeliest_token<float>(scores), Catch::Contains("not numbers"));
}

TEST_CASE("what a model's folder says of generation", "[model][generate]") {
  const test::TemporaryFolder folder;
  folder.file("config.json", R"({"eos_token_id": 7})");
  CHECK(end_ids_of(folder.path()) == Tokens{7});
  CHECK_THROWS_AS(read_generation_config(folder.path()), Error);
  folder.file("config.json", R"({"eos_token_id": [7, 9]})");
  CHECK(end_ids_of(folder.path()) == Tokens{7, 9});
  folder.file("generation_config.json", R"({"temperature": 0.6, "top_p": 0.9, "pad_token_id": 3, "num_beams": 1})");
  CHECK(end_ids_of(folder.path()) == Tokens{7, 9});  // where the one file has none, the other's
  GenerationFile file = read_generation_config(folder.path(), {.max_new_tokens = 33, .temperature = 2, .top_k = 4});
  CHECK(file.config.temperature == 0);  // not drawn without do_sample
  CHECK(file.config.top_k == 0);
  CHECK(file.config.max_new_tokens == 33);
  CHECK(file.config.end_ids == Tokens{7, 9});
  CHECK(file.ignored.empty());
  folder.file("generation_config.json",
              R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.1, "eos_token_id": [5, 6], "num_beams": 4,
                  "max_length": 4096, "stop_strings": "END"})");
  file = read_generation_config(folder.path());
  CHECK(file.config.temperature == 0.6);
  CHECK(file.config.top_k == 50);
  CHECK(file.config.top_p == 0.9);
  CHECK(file.config.min_p == 0.1);
  CHECK(file.config.repetition_penalty == 1.1);
  CHECK(file.config.end_ids == Tokens{5, 6});
  CHECK(file.stop_strings == std::vector<std::string>{"END"});
  CHECK(file.config.num_beams == 4);
  CHECK(file.ignored == std::vector<std::string>{"max_length"});
  folder.file("generation_config.json", R"({"decoder_start_token_id": 2, "early_stopping": true, "forced_bos_token_id": 0, "forced_eos_token_id": 5,
                  "length_penalty": 2.0, "max_length": 142, "min_length": 56, "no_repeat_ngram_size": 3, "num_beams": 4})");
  file = read_generation_config(folder.path());
  CHECK(file.config.max_new_tokens == 141);  // the lengths of an encoder-decoder count its start token
  CHECK(file.config.min_new_tokens == 55);
  CHECK(file.config.no_repeat_ngram_size == 3);
  CHECK(file.config.length_penalty == 2.0);
  CHECK(file.config.early_stopping == EarlyStopping::yes);
  CHECK(file.config.decoder_start_token_id == 2);
  CHECK(file.config.forced_bos_token_id == 0);
  CHECK(file.config.forced_eos_token_id == 5);
  CHECK(file.ignored.empty());
  folder.file("generation_config.json", R"({"early_stopping": "never", "max_new_tokens": 9, "min_new_tokens": 2})");
  file = read_generation_config(folder.path());
  CHECK(file.config.early_stopping == EarlyStopping::never);
  CHECK(file.config.max_new_tokens == 9);
  CHECK(file.config.min_new_tokens == 2);
  folder.file("generation_config.json", R"({"eos_token_id": "end"})");
  CHECK_THROWS_WITH(end_ids_of(folder.path()), Catch::Contains("generation_config.json") && Catch::Contains("eos_token_id"));
}
