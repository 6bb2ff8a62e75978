// Prompts at a model's input: where the rows go, several prompts in one batch, starts, and gradients.
#include "deltatune/delta/prompt.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/nn/input_embeddings.hpp"
#include "deltatune/train/prompt_ensemble.hpp"
#include "support/error_text.hpp"
#include "support/gradient_checks.hpp"

using namespace deltatune;

namespace {

using Tokens = std::vector<std::int32_t>;

PackedBatch toy_batch(const Tokens& prompts = {}) {
  PackedBatch batch;
  for (const Tokens& tokens : {Tokens{3, 7, 3, 1}, Tokens{2}, Tokens{7, 5, 6}}) batch.add(tokens);
  batch.types = {0, 0, 1, 1, 0, 1, 0, 0};
  batch.prompts = prompts;
  return batch;
}

struct PromptCase {
  std::vector<PromptConfig> prompts;
  Tokens chosen = {};
  bool tables_train = false;
  bool frozen = false;  // the first of the prompts
};

template <class X>
InputEmbeddings<X> embeddings(context_of<X>& ctx, Index width) {
  return InputEmbeddings<X>("embeddings",
                            {.word = std::make_shared<Embedding<X>>(ctx, "word", 9, width, 0),
                             .position = Embedding<X>(ctx, "position", 12, width),
                             .type = Embedding<X>(ctx, "type", 2, width),
                             .norm = Norm<X>(ctx, "norm", width, {.epsilon = 1e-6})},
                            0.2);
}

auto embeddings_body(const PromptCase& plan, Index width) {
  return [=]<class X>(check::Trial<X>& trial) {
    auto& ctx = trial.ctx();
    trial.pass().mode = Mode::train;
    InputEmbeddings<X> fresh = embeddings<X>(ctx, width);
    for (std::size_t i = 0; i < plan.prompts.size(); ++i) {
      const std::vector<double> zeros(static_cast<std::size_t>(plan.prompts[i].prompts * plan.prompts[i].rows * width), 0.0);
      Prompt<X>& prompt = fresh.input().deltas.add("prompt" + std::to_string(i), Prompt<X>(ctx, width, plan.prompts[i], zeros));
      if (plan.frozen && i == 0) prompt.prompt_embeddings().set_mask(FreezeMask::frozen());
    }
    if (plan.tables_train) unfreeze(fresh, {"word.weight", "position.weight", "norm.**"});
    InputEmbeddings<X>& layer = trial.own(std::move(fresh));
    DeviceBatch<X> batch(ctx);
    batch.upload(toy_batch(plan.chosen), layer.tables_train(), layer.input().deltas.layout());
    trial.pass().sequences = &batch.sequences();
    const auto h = trial.output("h", batch.sequences().rows, width);
    typename InputEmbeddings<X>::Saved saved;
    layer.forward(trial.pass(), batch, h.value, saved);
    if (trial.backward_wanted()) layer.backward(trial.pass(), batch, saved, h.gradient);
  };
}

}  // namespace

TEST_CASE("prompt: gradients, wherever the rows are, one prompt and several", "[delta][prompt]") {
  const std::vector<PromptCase> plans{
      {.prompts = {{.rows = 3}}},
      {.prompts = {{.rows = 3}}, .tables_train = true},
      {.prompts = {{.rows = 2, .like_words = false}}},
      {.prompts = {{.rows = 2, .like_words = false, .after_first = true}}, .tables_train = true},
      {.prompts = {{.rows = 2, .prompts = 3}}, .chosen = {2, 0, 2}},
      {.prompts = {{.rows = 2, .prompts = 3}}},
      {.prompts = {{.rows = 2, .prompts = 2, .like_words = false, .after_first = true}, {.rows = 3}, {.rows = 1, .like_words = false}}, .chosen = {1, 0, 1}},
      {.prompts = {{.rows = 2}, {.rows = 3}}, .frozen = true},
  };
  for (std::size_t i = 0; i < plans.size(); ++i) {
    INFO("plan " << i);
    test::check_adjoint(embeddings_body(plans[i], 6));
    test::check_device(embeddings_body(plans[i], 6));
  }
}

TEST_CASE("prompt: each sequence gets the rows of its prompt, the first where none is chosen", "[delta][prompt]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  const Index width = 2, rows = 2;
  std::vector<double> values;
  for (Index i = 0; i < 3 * rows * width; ++i) values.push_back(static_cast<double>(i));
  const PromptConfig config{.rows = rows, .prompts = 3, .like_words = false};
  InputSlot<X> slot;
  slot.add("prompt", Prompt<X>(ctx, width, config, values));
  CHECK(slot.layout() == InputLayout{.front = rows, .prompts = 3});
  Workspace<test::Device> saved(ctx), scratch(ctx);
  const auto placed = [&](const Tokens& chosen) {
    DeviceBatch<X> batch(ctx);
    batch.upload(toy_batch(chosen), false, slot.layout());
    Pass<X> pass{ctx, saved, scratch};
    pass.sequences = &batch.sequences();
    std::vector<float> host;
    SlotSaved kept;
    slot.forward(pass, 3, width, false, kept, [&](Index, Index first, View<float> placed_rows) {
      CHECK(first == 0);
      host = test::on_host<X>(ctx, placed_rows);
    });
    return host;
  };
  CHECK(placed({2, 0, 1}) == std::vector<float>{8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(placed({}) == std::vector<float>{0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3});
  CHECK_THAT(test::error_text([&] { placed({0, 3, 0}); }), Catch::Contains("batch: prompts") && Catch::Contains("0 to 2") && Catch::Contains("got 3"));
  CHECK_THAT(test::error_text([&] { placed({0, 1}); }), Catch::Contains("must be one per sequence") && Catch::Contains("expected 3"));
  CHECK(trainable_count(slot) == 3 * rows * width);
}

TEST_CASE("prompt: starts", "[delta][prompt]") {
  using X = test::DeviceTensor;
  test::DeviceContext ctx(1);
  using Kind = PromptStart::Kind;
  const Index width = 50, words = 40;
  X table(ctx, {words, width});
  std::vector<float> host;
  for (Index i = 0; i < words * width; ++i) host.push_back(static_cast<float>(0.02 * normal(derive(9), static_cast<std::uint64_t>(i)) + 0.5));
  test::from_host<X>(ctx, host, table.view());
  const auto start = [&](const PromptStart& from, const PromptConfig& config) { return prompt_start<X>(ctx, from, config, table.view(), derive(3)); };
  const auto spread = [](const std::vector<double>& x) {
    double sum = 0, squares = 0;
    for (const double v : x) sum += v, squares += v * v;
    const double mean = sum / static_cast<double>(x.size());
    return std::sqrt(squares / static_cast<double>(x.size()) - mean * mean);
  };
  const auto row = [&](const std::vector<double>& x, Index i) { return std::vector<float>(x.begin() + i * width, x.begin() + (i + 1) * width); };
  const auto word = [&](Index token) { return std::vector<float>(host.begin() + token * width, host.begin() + (token + 1) * width); };
  const PromptConfig long_one{.rows = 60};
  CHECK(spread(start({}, long_one)) == Approx(1.0).epsilon(0.05));
  CHECK(spread(start({Kind::vocabulary_scale}, long_one)) == Approx(0.02).epsilon(0.05));
  const std::vector<double> uniform_one = start({Kind::uniform}, long_one);
  CHECK(*std::max_element(uniform_one.begin(), uniform_one.end()) <= 0.5);
  CHECK(spread(uniform_one) == Approx(1 / std::sqrt(12.0)).epsilon(0.05));
  const auto is_word = [&](const std::vector<float>& values) {
    for (Index token = 0; token < words; ++token)
      if (values == word(token)) return true;
    return false;
  };
  const std::vector<double> sampled = start({Kind::vocabulary}, {.rows = 3, .prompts = 2});
  REQUIRE(sampled.size() == 6 * 50);
  for (Index i = 0; i < 6; ++i) CHECK(is_word(row(sampled, i)));
  CHECK(row(sampled, 0) != row(sampled, 3));
  const std::vector<double> text = start({Kind::text, {{7, 0, 39}}}, {.rows = 5});
  for (Index i = 0; i < 5; ++i) CHECK(row(text, i) == word(Tokens{7, 0, 39, 7, 0}[static_cast<std::size_t>(i)]));
  const std::vector<double> labels = start({Kind::labels, {{4}, {5, 6}}}, {.rows = 3});
  CHECK(row(labels, 0) == word(4));
  for (std::size_t j = 0; j < 50; ++j) CHECK(labels[50 + j] == Approx((word(5)[j] + word(6)[j]) / 2));
  CHECK(is_word(row(labels, 2)));

  CHECK_THAT(test::error_text([&] { start({Kind::text, {{40}}}, {}); }), Catch::Contains("0 to 39") && Catch::Contains("got 40"));
  CHECK_THAT(test::error_text([&] { PromptStart{Kind::text}.validate("plan", {}); }), Catch::Contains("plan: prompt") && Catch::Contains("tokens are missing"));
  CHECK_THAT(test::error_text([&] { PromptStart{Kind::labels, {{1}, {}}}.validate("plan", {}); }), Catch::Contains("has no tokens"));
  CHECK_THAT(test::error_text([&] { PromptStart{Kind::text, {{1}}}.validate("plan", {.prompts = 2}); }), Catch::Contains("all prompts would be the same"));
  CHECK_THAT(test::error_text([&] { PromptConfig{.rows = 0}.validate("plan"); }), Catch::Contains("plan: num_virtual_tokens"));
  CHECK_THAT(test::error_text([&] { PromptConfig{.prompts = 0}.validate("plan"); }), Catch::Contains("plan: prompts"));
  CHECK_THAT(test::error_text([&] { PromptConfig{.after_first = true}.validate("plan"); }), Catch::Contains("plan: after_first"));
}

TEST_CASE("prompt ensemble: every sequence with every prompt, and the scores combined", "[delta][prompt]") {
  PackedBatch batch = toy_batch();
  batch.labels = {1, 0, 2};
  const PackedBatch all = with_every_prompt(batch, 2);
  CHECK(all.ids == Tokens{3, 7, 3, 1, 3, 7, 3, 1, 2, 2, 7, 5, 6, 7, 5, 6});
  CHECK(all.positions == Tokens{0, 1, 2, 3, 0, 1, 2, 3, 0, 0, 0, 1, 2, 0, 1, 2});
  CHECK(all.types == Tokens{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0, 1, 0, 0});
  CHECK(all.offsets == std::vector<Index>{0, 4, 8, 9, 10, 13, 16});
  CHECK(all.labels == Tokens{1, 1, 0, 0, 2, 2});
  CHECK(all.prompts == Tokens{0, 1, 0, 1, 0, 1});
  CHECK(all.targets.empty());

  // Two sequences, three prompts, two classes: of the first sequence two prompts are just for class 0, one is strongly for class 1.
  const std::vector<double> scores{0.2, 0.1, 0.2, 0.1, 0, 6, 1, 2, 3, 4, 5, 9};
  const auto logits = [&](const PackedBatch& given) {
    CHECK(given.prompts == Tokens{0, 1, 2, 0, 1, 2});
    return scores;
  };
  PackedBatch two;
  two.add(Tokens{1});
  two.add(Tokens{2, 3});
  const std::vector<double> mean = prompt_ensemble(logits, 3, 2, Ensemble::mean)(two);
  REQUIRE(mean.size() == 4);
  CHECK(mean[0] == Approx(0.4 / 3));
  CHECK(mean[1] == Approx(6.2 / 3));
  CHECK(mean[3] == Approx(5.0));
  CHECK(prompt_ensemble(logits, 3, 2, Ensemble::vote)(two) == std::vector<double>{2, 1.5, 0, 3.5});
  // One vote each: the means decide.
  const std::vector<double> tie{1, 0, 0, 3};
  CHECK(combine_prompts(std::span<const double>(tie), 2, 2, Ensemble::vote) == std::vector<double>{1, 1.5});
}
