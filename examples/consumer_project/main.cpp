// Holds the new method to what every method promises, on a small BERT, and checks its gradients: no line of the library was touched for it.
#include <deltatune/check/contract.hpp>
#include <deltatune/check/gradcheck.hpp>
#include <filesystem>
#include <iostream>

#include "moslora.hpp"

int main() {
  using namespace deltatune;
  using X = Tensor<float, DefaultCpu>;

  // Backward against dual numbers through forward, in a layer that holds the delta.
  const check::Report gradients = check::adjoint_test([]<class Y>(check::Trial<Y>& trial) {
    Linear<Y> with_delta(trial.ctx(), 6, {{"site", 5}});
    with_delta.visit_sites([&](LinearSite<Y>& site) { site.deltas.add("moslora", MosLora<Y>(trial.ctx(), site.path, 6, 5, 3, 4.0, 1)); });
    Linear<Y>& layer = trial.own(std::move(with_delta));
    const auto x = trial.input("x", 4, 6), y = trial.output("y", 4, 5);
    typename Linear<Y>::Saved saved;
    layer.forward(trial.pass(), x.value, y.value, saved);
    if (trial.backward_wanted()) layer.backward(trial.pass(), saved, x.value, y.gradient, GradientSink<scalar_of<Y>>::fresh(x.gradient));
  });
  std::cout << gradients.text();

  DefaultCpu::Context ctx(2);
  const auto make_model = [](DefaultCpu::Context& context) {
    const Architecture small_bert =
        architecture_of(JsonConfig::parse(R"({"model_type": "bert", "vocab_size": 30, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
          "intermediate_size": 24, "max_position_embeddings": 16, "type_vocab_size": 2, "pad_token_id": 0, "initializer_range": 0.3})",
                                          "small BERT"));
    Transformer<X> model(context, small_bert, Head::classifier(3));
    model.initialise(context, 1);
    return model;
  };
  PackedBatch batch;
  for (const std::vector<std::int32_t>& tokens : {std::vector<std::int32_t>{3, 7, 5, 1}, {2, 9}, {4, 4, 8}}) batch.add(tokens);
  batch.labels = {0, 2, 1};
  MosLoraPlan plan;
  plan.rank = 3;
  const std::filesystem::path folder = std::filesystem::temp_directory_path() / "moslora_adapter";
  const std::vector<std::string> broken =
      check::contract(ctx, make_model, batch, plan, {.parameters = 4 * 3 * (16 + 16 + 3), .merges = true, .folder = folder});
  for (const std::string& sentence : broken) std::cout << "broken: " << sentence << "\n";
  std::cout << (broken.empty() ? "MoSLoRA keeps what every method promises\n" : "");
  return broken.empty() && gradients.worst() <= 1e-10 ? 0 : 1;
}
