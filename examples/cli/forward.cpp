// deltatune forward: outputs and gradients of a model for a batch in a file, without dropout. What comparisons with other libraries need.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "batch_file.hpp"
#include "commands.hpp"
#include "deltatune/ops/elementwise.hpp"
#include "deltatune/train/trainer.hpp"
#include "model_io.hpp"

namespace deltatune::cli {

namespace {

struct ForwardOptions {
  std::string model, adapter, trainable, batch, out;
  bool gradients = false;
  int threads = 0;
};

// The name of a trainable parameter in the adapter's file, else in the model's.
std::string key_of(const LoadedModel& loaded, const std::string& path) {
  if (loaded.adapter) return loaded.adapter->keys.at(path);
  const auto& names = loaded.model.load_report().names;
  const auto name = names.find(path);
  return name == names.end() ? path : name->second;
}

class ForwardRun {
 public:
  ForwardRun(Context& ctx, LoadedModel& loaded, const PackedBatch& batch) : ctx_(ctx), loaded_(loaded), batch_(batch), saved_(ctx), scratch_(ctx), device_batch_(ctx) {
    device_batch_.upload(batch, loaded.model.embeddings_train());
  }

  void encoder(SafeTensorsWriter& writer) {
    Pass<X> pass{ctx_, saved_, scratch_};
    const Index width = loaded_.model.config().width;
    const View<float> h = pass.keep(batch_.rows(), width);
    loaded_.model.encode(pass, device_batch_, h, activations_);
    const std::vector<float> rows = download_floats<X>(ctx_, h);
    std::vector<float> means;
    for (Index b = 0; b < batch_.count(); ++b) {
      const Index first = batch_.offsets[static_cast<std::size_t>(b)], last = batch_.offsets[static_cast<std::size_t>(b) + 1];
      for (Index j = 0; j < width; ++j) {
        double sum = 0;
        for (Index i = first; i < last; ++i) sum += static_cast<double>(rows[static_cast<std::size_t>(i * width + j)]);
        means.push_back(static_cast<float>(sum / static_cast<double>(last - first)));
      }
    }
    writer.add_copy("last_hidden_state", {batch_.rows(), width}, rows);
    writer.add_copy("sentence_embedding", {batch_.count(), width}, means);
  }

  void classifier(bool has_labels, bool gradients, SafeTensorsWriter& writer) {
    Model& model = loaded_.model;
    Pass<X> pass{ctx_, saved_, scratch_, gradients ? Mode::differentiate : Mode::evaluate};
    const View<float> logits = pass.keep(batch_.count(), model.classes());
    const View<float> dlogits = pass.keep(batch_.count(), model.classes());
    const View<float> loss = pass.keep(1, 1);
    model.forward(pass, device_batch_, logits, activations_);
    writer.add_copy("logits", {batch_.count(), model.classes()}, download_floats<X>(ctx_, logits));
    if (!has_labels) return;
    Backend::fill(ctx_, loss, 0.0F);
    classification_loss<X>(pass, device_batch_, logits, {}, {}, label_weight(batch_, {}), dlogits, loss);
    writer.add_copy("loss", {1}, download_floats<X>(ctx_, loss));
    if (!gradients) return;
    allocate_gradients(model, ctx_);
    model.backward(pass, device_batch_, activations_, dlogits);
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.trains()) writer.add_copy("grad." + key_of(loaded_, parameter.path()), parameter.shape(), download_floats<X>(ctx_, parameter.gradient()));
    });
  }

 private:
  Context& ctx_;
  LoadedModel& loaded_;
  const PackedBatch& batch_;
  Workspace<Backend> saved_, scratch_;
  DeviceBatch<X> device_batch_;
  Model::Activations activations_;
};

void run(const ForwardOptions& options) {
  if (options.gradients && options.adapter.empty() && options.trainable.empty())
    throw Error("--gradients", "nothing trains", {.remedy = "say of what: --adapter DIR or --trainable full|bitfit|bitfit_query_ffn|head"});
  Context ctx(options.threads);
  LoadedModel loaded = load_model(ctx, options.model, options.adapter);
  const BatchFile file(options.batch);
  PackedBatch batch = file.pack(loaded.model.config());
  for (const std::string& name : file.unused()) std::cerr << "note: " << options.batch << ": " << name << " is not used\n";
  if (!loaded.model.has_classifier() && (options.gradients || !options.trainable.empty()))
    throw Error(options.model, "has no classifier, so there is no loss and nothing to differentiate",
                {.remedy = "leave out --gradients and --trainable, or give the adapter that brings a classifier"});
  if (!loaded.model.has_classifier() && file.has_labels())
    throw Error(options.batch + ": labels", "the model has no classifier to use them", {.remedy = "give the adapter that brings one, or a batch without labels"});
  if (options.gradients && !file.has_labels()) throw Error(options.batch + ": labels", "is missing, and there are no gradients without a loss");
  if (!options.trainable.empty()) apply(loaded.model, selection_of(options.trainable));
  if (file.has_labels()) file.add_labels(loaded.model.classes(), batch);

  SafeTensorsWriter writer;
  ForwardRun forward(ctx, loaded, batch);
  if (loaded.model.has_classifier()) {
    forward.classifier(file.has_labels(), options.gradients, writer);
  } else {
    forward.encoder(writer);
  }
  writer.write(options.out);
}

}  // namespace

void add_forward(CLI::App& app) {
  const auto options = std::make_shared<ForwardOptions>();
  CLI::App* const command = app.add_subcommand("forward", "Outputs, loss and gradients of a model for a batch of token ids, without dropout");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  CLI::Option* const adapter = command->add_option("--adapter", options->adapter, "Folder of an adapter for it")->type_name("DIR");
  command->add_option("--trainable", options->trainable, "Which of the model's own parameters get gradients: full, bitfit, bitfit_query_ffn or head")
      ->check(CLI::IsMember({"full", "bitfit", "bitfit_query_ffn", "head"}))
      ->excludes(adapter)
      ->type_name("WHAT");
  command->add_option("--batch", options->batch, "Input: int64 input_ids (B,S); if wanted attention_mask (B,S), token_type_ids (B,S), labels (B)")
      ->required()
      ->type_name("FILE.safetensors");
  command->add_option("--out", options->out, "Output: float32 logits (B,K), loss (1), grad.<name>; without a classifier last_hidden_state, sentence_embedding")
      ->required()
      ->type_name("FILE.safetensors");
  command->add_flag("--gradients", options->gradients, "Also write the gradient of everything that trains");
  command->add_option("--threads", options->threads, "Threads [all processors]")->check(CLI::Range(1, 1024))->type_name("N");
  command->footer("Example:\n  deltatune forward --model minilm --adapter runs/tweets --batch batch.safetensors --out logits.safetensors");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
