// deltatune forward: outputs and gradients of a model for a batch in a file, without dropout. What comparisons with other libraries need.
#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>

#include "batch_file.hpp"
#include "commands.hpp"
#include "device_options.hpp"
#include "model_io.hpp"
#include "run_folder.hpp"

namespace deltatune::cli {

namespace {

struct ForwardOptions {
  std::string model, trainable, batch, out;
  std::vector<std::filesystem::path> adapters;
  bool gradients = false;
  DeviceOptions device;
};

void run(const ForwardOptions& options) {
  if (options.gradients && options.adapters.empty() && options.trainable.empty())
    throw Error("--gradients", "nothing trains", {.remedy = "say of what: --adapter DIR or --trainable full|bitfit|bitfit_query_ffn|layer_norm|head"});
  refuse_own_file(options.out, options.batch, "--batch");
  refuse_own_file(options.out, options.model, "the model");
  for (const std::filesystem::path& adapter : options.adapters) refuse_own_file(options.out, adapter, "the adapter");
  const std::unique_ptr<Device> device = open_device(options.device);
  const std::unique_ptr<DeviceModel> model = device->load(options.model, options.adapters);
  const ModelInfo& info = model->info();
  const bool has_head = info.num_labels > 0 || info.is_language_model;
  const bool has_targets = info.is_encoder_decoder && info.is_language_model;
  const BatchFile file(options.batch);
  PaddedBatch batch = has_targets ? file.pack_pairs(info) : file.pack(info);
  for (const std::string& name : file.unused()) std::cerr << "note: " << options.batch << ": " << name << " is not used\n";
  if (!has_head && (options.gradients || !options.trainable.empty()))
    throw Error(options.model, "has no classifier, so there is no loss and nothing to differentiate",
                {.remedy = "leave out --gradients and --trainable, or give the adapter that brings a classifier"});
  if (!has_head && file.has_labels())
    throw Error(options.batch + ": labels", "the model has no classifier to use them",
                {.remedy = "give the adapter that brings one, or a batch without labels"});
  if (options.gradients && !file.has_labels()) throw Error(options.batch + ": labels", "is missing, and there are no gradients without a loss");
  if (!options.trainable.empty()) model->select(selection_of(options.trainable, info.family));
  if (file.has_labels() && info.num_labels > 0) {
    file.add_labels(info.num_labels, batch.batch);
  } else if (file.has_labels() && !has_targets) {  // which are in the batch already
    file.add_token_labels(info.vocab_size, batch);
  }

  SafeTensorsWriter writer;
  model->forward(batch, options.gradients, writer);
  writer.write(options.out);
}

}  // namespace

void add_forward(CLI::App& app) {
  const auto options = std::make_shared<ForwardOptions>();
  CLI::App* const command = app.add_subcommand("forward", "Outputs, loss and gradients of a model for a batch of token ids, without dropout");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  CLI::Option* const adapter = command->add_option("--adapter", options->adapters, "Folder of an adapter for it; several times for several")->type_name("DIR");
  command
      ->add_option("--trainable", options->trainable, "Which of the model's own parameters get gradients: full, bitfit, bitfit_query_ffn, layer_norm or head")
      ->check(CLI::IsMember({"full", "bitfit", "bitfit_query_ffn", "layer_norm", "head"}))
      ->excludes(adapter)
      ->type_name("WHAT");
  command
      ->add_option("--batch", options->batch,
                   "Input: int64 input_ids (B,S); if wanted attention_mask (B,S), token_type_ids (B,S), labels (B), or (B,S) for a language model; of an "
                   "encoder-decoder input_ids are the sources, and labels (B,T), which it needs, the targets")
      ->required()
      ->type_name("FILE.safetensors");
  command
      ->add_option("--out", options->out,
                   "Output: float32 logits (B,K), (B,S,V) or of an encoder-decoder (B,T,V), loss (1), grad.<name>; without a classifier last_hidden_state, "
                   "sentence_embedding")
      ->required()
      ->type_name("FILE.safetensors");
  command->add_flag("--gradients", options->gradients, "Also write the gradient of everything that trains");
  add_device_options(*command, options->device);
  command->footer("Example:\n  deltatune forward --model minilm --adapter runs/tweets --batch batch.safetensors --out logits.safetensors");
  command->callback([options] { run(*options); });
}

}  // namespace deltatune::cli
