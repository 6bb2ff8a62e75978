// Generation: the cache gives what a full pass gives, and tokens are chosen as the options say.
#include "deltatune/model/generate.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "deltatune/ops/prefix.hpp"
#include "support/error_text.hpp"
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
