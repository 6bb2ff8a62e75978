// device.hpp for a model on a tensor type: what cpu_*.cpp and cuda.cu compile, each for its own.
#pragma once

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/io/hf_export.hpp"
#include "deltatune/train/features.hpp"
#include "deltatune/train/likelihood.hpp"
#include "deltatune/train/lora_plus.hpp"
#include "device.hpp"
#include "model_io.hpp"

namespace deltatune::cli {

template <class Model>
class OnDeviceModel : public DeviceModel {
 public:
  using X = typename Model::Tensor;
  using B = backend_of<X>;

  OnDeviceModel(context_of<X>& ctx, const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters, bool bf16_base)
      : ctx_(ctx),
        loaded_(load_model<Model>(ctx, model, adapters, bf16_base && adapters.empty())),
        model_(*loaded_.model),
        info_(info_of(model_, loaded_.labels)),
        saved_(ctx),
        scratch_(ctx),
        device_batch_(ctx) {
    if (bf16_base) model_.cast_base_to_bf16(ctx);
  }

  const ModelInfo& info() const override { return info_; }

  std::vector<float> logits(const PackedBatch& batch) override {
    device_batch_.upload(batch, false, model_.layout());
    const WorkspaceScope<B> all(saved_);
    Pass<X> pass{ctx_, saved_, scratch_};
    const View<float> logits = pass.keep(batch.count(), model_.num_labels());
    model_.forward(pass, device_batch_, logits, activations_);
    return download_floats<X>(ctx_, logits);
  }
  std::pair<double, double> loss(const PackedBatch& batch) override {
    const double weight = label_weight(batch, {}, model_.layout());
    device_batch_.upload(batch, false, model_.layout());
    const WorkspaceScope<B> all(saved_);
    Pass<X> pass{ctx_, saved_, scratch_};
    const View<float> loss = pass.keep(1, 1);
    B::fill(ctx_, loss, 0.0F);
    model_.loss(pass, device_batch_, {0, {}, 1.0}, loss, activations_);
    return {static_cast<double>(download_floats<X>(ctx_, loss)[0]), weight};
  }
  std::vector<double> choice_log_likelihoods(const PackedBatch& sources, std::span<const std::vector<std::int32_t>> choices) override {
    const WorkspaceScope<B> all(saved_);
    Pass<X> pass{ctx_, saved_, scratch_};
    return deltatune::choice_log_likelihoods(pass, model_, sources, choices, device_batch_, activations_);
  }
  std::vector<Continuation> generate(const PackedBatch& prompts, const GenerationConfig& config, const OnToken& on_token) override {
    return deltatune::generate(ctx_, model_, prompts, config, on_token);
  }
  Continuation answer(std::span<const std::int32_t> conversation, const GenerationConfig& config, const OnToken& on_token) override {
    PackedBatch batch;
    batch.add(conversation);
    return std::move(deltatune::generate(ctx_, model_, batch, config, on_token, &memory_).front());
  }

  void select(const Selection& selection) override { apply(model_, selection); }

  void forward(const PaddedBatch& padded, bool gradients, SafeTensorsWriter& writer) override {
    device_batch_.upload(padded.batch, model_.embeddings_train(), model_.layout());
    const WorkspaceScope<B> all(saved_);
    if (model_.has_classifier() || model_.is_language_model()) {
      run_head(padded, gradients, writer);
    } else {
      run_encoder(padded.batch, writer);
    }
  }

 private:
  void run_encoder(const PackedBatch& batch, SafeTensorsWriter& writer) {
    Pass<X> pass{ctx_, saved_, scratch_};
    const Index width = info_.hidden_size;
    const View<float> all = pass.keep(device_batch_.sequences().rows, width);
    model_.encode(pass, device_batch_, all, activations_);
    View<float> h = all;
    if (device_batch_.token_rows() != nullptr) {  // without the rows of prompts
      h = pass.keep(batch.rows(), width);
      ops::gather_rows<B, float>(ctx_, all, device_batch_.token_rows(), h);
    }
    const std::vector<float> rows = download_floats<X>(ctx_, h);
    std::vector<float> means;
    for (Index b = 0; b < batch.count(); ++b) {
      const Index first = batch.offsets[static_cast<std::size_t>(b)], last = batch.offsets[static_cast<std::size_t>(b) + 1];
      for (Index j = 0; j < width; ++j) {
        double sum = 0;
        for (Index i = first; i < last; ++i) sum += static_cast<double>(rows[static_cast<std::size_t>(i * width + j)]);
        means.push_back(static_cast<float>(sum / static_cast<double>(last - first)));
      }
    }
    writer.add_copy("last_hidden_state", {batch.rows(), width}, rows);
    writer.add_copy("sentence_embedding", {batch.count(), width}, means);
  }

  void run_head(const PaddedBatch& padded, bool gradients, SafeTensorsWriter& writer) {
    const PackedBatch& batch = padded.batch;
    {
      const WorkspaceScope<B> scope(saved_);
      Pass<X> pass{ctx_, saved_, scratch_};
      const bool per_token = model_.is_language_model();
      const Index columns = per_token ? info_.vocab_size : model_.num_labels();
      const View<float> logits = pass.keep(per_token ? batch.rows() : batch.count(), columns);
      model_.forward(pass, device_batch_, logits, activations_);
      std::vector<float> host = download_floats<X>(ctx_, logits);
      if (per_token) {
        // In the file's rows and columns, 0 at the padding.
        std::vector<float> all(static_cast<std::size_t>(padded.rows * padded.columns * columns), 0.0F);
        for (std::size_t i = 0; i < padded.places.size(); ++i)
          std::copy_n(host.begin() + static_cast<std::ptrdiff_t>(i) * columns, columns, all.begin() + static_cast<std::ptrdiff_t>(padded.places[i]) * columns);
        writer.add_copy("logits", {padded.rows, padded.columns, columns}, all);
      } else {
        writer.add_copy("logits", {batch.count(), columns}, host);
      }
    }
    if (batch.labels.empty() && batch.targets.empty() && batch.token_labels.empty()) return;
    Pass<X> pass{ctx_, saved_, scratch_, gradients ? Mode::differentiate : Mode::evaluate};
    if (gradients) allocate_gradients(model_, ctx_);
    const View<float> loss = pass.keep(1, 1);
    B::fill(ctx_, loss, 0.0F);
    model_.loss(pass, device_batch_, {0, {}, label_weight(batch, {}, model_.layout())}, loss, activations_);
    if (gradients) model_.backward(pass, device_batch_, activations_);
    if (gradients) model_.derived().penalty(pass, loss);
    writer.add_copy("loss", {1}, download_floats<X>(ctx_, loss));
    if (!gradients) return;
    std::map<std::string, int> names;
    model_.visit([&](Parameter<X>& parameter) {
      const bool is_empty = parameter.role() == Role::delta && parameter.size() == 0;  // a site that has lost all its ranks
      if (is_empty) return writer.add_copy("grad." + name_in_file(parameter.path()), parameter.file_shape(), std::vector<float>{});
      if (parameter.updated()) write_gradient(parameter, names, writer);
    });
  }

  void write_gradient(Parameter<X>& parameter, std::map<std::string, int>& names_io, SafeTensorsWriter& writer) const {
    const std::vector<float> gradient = download_in_file_order<X>(ctx_, parameter, parameter.gradient());
    for (const auto& adapter : loaded_.adapters) {
      // Tensors of a file that lie side by side in the parameter.
      const auto parts = adapter.columns.find(parameter.path());
      if (parts == adapter.columns.end()) continue;
      const Index rows = parameter.shape().at(0), columns = parameter.shape().at(1), width = columns / static_cast<Index>(parts->second.size());
      for (std::size_t p = 0; p < parts->second.size(); ++p) {
        std::vector<float> part;
        for (Index i = 0; i < rows; ++i) {
          const auto from = gradient.begin() + i * columns + static_cast<Index>(p) * width;
          part.insert(part.end(), from, from + width);
        }
        writer.add_copy("grad." + parts->second[p], {rows, width}, part);
      }
      return;
    }
    const std::string name = name_in_file(parameter.path());
    const int number = ++names_io[name];  // adapters beside each other may have the same names: the second one is <name>#2
    writer.add_copy("grad." + name + (number > 1 ? "#" + std::to_string(number) : ""), parameter.file_shape(), gradient);
  }

  // The name of a trainable parameter in an adapter's file, else in the model's.
  std::string name_in_file(const std::string& path) const {
    for (const auto& adapter : loaded_.adapters)
      if (const auto key = adapter.keys.find(path); key != adapter.keys.end()) return key->second;
    const auto& names = model_.load_report().names;
    const auto name = names.find(path);
    return name == names.end() ? path : name->second;
  }

  context_of<X>& ctx_;
  LoadedModel<Model> loaded_;
  Model& model_;
  ModelInfo info_;
  Workspace<B> saved_, scratch_;
  DeviceBatch<X> device_batch_;
  typename Model::Activations activations_;
  GenerationMemory<Model> memory_;  // of a conversation
};

// Whether nothing starts from the weights of layers or trains them, so that they may be rounded as they are read.
inline bool leaves_layers_alone(const Recipe& recipe) {
  return recipe.init_adapters.empty() && !recipe.plans.empty() && std::all_of(recipe.plans.begin(), recipe.plans.end(), [](const AnyPlan& plan) {
           const LoraPlan* const lora = std::get_if<LoraPlan>(&plan);
           return lora != nullptr && !lora->dora && !lora->start && lora->modules_to_save == kOutputModules;
         });
}

template <class Model>
class OnDeviceTraining : public DeviceTraining {
 public:
  using X = typename Model::Tensor;

  OnDeviceTraining(context_of<X>& ctx, const Recipe& recipe, bool bf16_base)
      : ctx_(ctx),
        recipe_(recipe),
        plans_(recipe.plans),
        model_(Model::load(ctx, recipe.model, recipe.head, recipe.trainer.seed, bf16_base && leaves_layers_alone(recipe))) {
    freeze_base(model_);
    for (std::size_t i = 0; i < plans_.size(); ++i)
      attachments_.push_back(attach_beside(ctx, model_, plans_[i], recipe.trainer.seed + i, "--method " + method_of(plans_[i])));
    for (const std::filesystem::path& folder : recipe_.init_adapters) attach_trained(folder);
    train_drawn_head();
    if (bf16_base) model_.cast_base_to_bf16(ctx);
    model_.recompute_feed_forward(recipe.recompute);
    if (recipe_.lora_plus_ratio > 0) lora_plus(model_, recipe.trainer.optimizer.learning_rate, {.ratio = recipe_.lora_plus_ratio});
    trainer_.emplace(ctx, model_, recipe.trainer);
  }

  const LoadReport& load_report() const override { return model_.load_report(); }
  std::string method() const override {
    std::string all;
    for (const AnyPlan& plan : plans_) all += (all.empty() ? "" : "+") + method_of(plan);
    return all;
  }
  Progress resume(const std::filesystem::path& folder, const nlohmann::json& settings) override { return load_checkpoint(folder, *trainer_, settings); }
  void save_checkpoint(const std::filesystem::path& folder, const Progress& progress, const nlohmann::json& settings) override {
    deltatune::save_checkpoint(folder, *trainer_, progress, settings);
  }
  Progress fit(Dataset& training, Dataset* evaluation, const FitConfig& config, const Progress& progress, const FitCallbacks& callbacks) override {
    if (recipe_.feature_batch > 0) {
      compute_features(ctx_, model_, training, recipe_.feature_batch);
      if (evaluation != nullptr) compute_features(ctx_, model_, *evaluation, recipe_.feature_batch);
    }
    return deltatune::fit(*trainer_, training, evaluation, config, progress, callbacks);
  }

  void save(const std::filesystem::path& folder) override {
    if (recipe_.saves_model)
      return save_hf_checkpoint(ctx_, folder, model_, recipe_.model, HfExport{.labels = recipe_.labels, .problem_type = recipe_.problem_type});
    if (attachments_.size() == 1) return save_adapter(ctx_, folder, model_, plans_[0], attachments_[0], recipe_.model.string());
    nlohmann::json parts = nlohmann::json::array();
    for (std::size_t i = 0; i < attachments_.size(); ++i) {
      const std::string part = std::to_string(i + 1) + "_" + method_of(plans_[i]);
      save_adapter(ctx_, folder / part, model_, plans_[i], attachments_[i], recipe_.model.string());
      if (!recipe_.labels.empty()) write_text_file(folder / part / "labels.json", nlohmann::json(recipe_.labels).dump(2) + "\n");
      parts.push_back(part);
    }
    write_text_file(folder / "adapters.json", nlohmann::json{{"adapters", parts}}.dump(2) + "\n");
  }

  std::map<std::string, PartSize> parts() override {
    std::map<std::string, PartSize> parts;
    model_.visit([&](const Parameter<X>& parameter) {
      if (parameter.derived() && parameter.role() == Role::delta) return;
      PartSize& part = parts[part_of(parameter)];
      part.all += parameter.size();
      part.trained += parameter.trainable_count();
    });
    return parts;
  }
  MemoryReport memory() override { return trainer_->memory(); }

 private:
  void attach_trained(const std::filesystem::path& folder) {
    auto adapter = load_adapter_beside(ctx_, model_, folder, attachment_name(folder, attachments_.size()));
    plans_.push_back(std::move(adapter.plan));
    attachments_.push_back(std::move(adapter.attachment));
  }

  // What of the head neither the model nor an adapter brings trains beside the first adapter and goes into its file: who loads it would draw other values.
  void train_drawn_head() {
    const std::vector<std::string>& drawn = model_.load_report().initialised;
    std::vector<std::string>& modules = base_of(plans_.front()).modules_to_save;
    model_.visit([&](Parameter<X>& parameter) {
      const std::string module = parameter.path().substr(0, parameter.path().rfind('.'));
      if (parameter.trains() || !parameter.brought_by().empty() || std::find(drawn.begin(), drawn.end(), parameter.path()) == drawn.end()) return;
      parameter.set_mask(FreezeMask::trainable());
      if (std::find(modules.begin(), modules.end(), module) == modules.end()) modules.push_back(module);
    });
  }

  // In a reader's words.
  std::string part_of(const Parameter<X>& parameter) const {
    const Architecture& architecture = model_.architecture();
    const std::string path = architecture.without_prefix(parameter.path());
    if (parameter.role() == Role::delta) return "deltas";
    if (architecture.is_head(path)) return model_.is_language_model() ? "head" : "classifier";
    if (parameter.role() == Role::embedding || path == architecture.input.norm + ".weight" || path == architecture.input.norm + ".bias") return "embeddings";
    return !architecture.head.pooler.empty() && path.starts_with(architecture.head.pooler) ? "pooler" : "layers";
  }

  context_of<X>& ctx_;
  const Recipe recipe_;
  std::vector<AnyPlan> plans_;
  Model model_;
  std::vector<Attachment<X>> attachments_;
  std::optional<Trainer<Model>> trainer_;
};

// Models with this context.
template <class X>
class OnDevice : public Device {
 public:
  using Context = context_of<X>;

  template <class... Arguments>
  explicit OnDevice(bool bf16_base, Arguments&&... arguments) : ctx_(std::forward<Arguments>(arguments)...), bf16_base_(bf16_base) {}

  int threads() const override {
    if constexpr (requires { ctx_.threads(); }) return ctx_.threads();
    return 0;
  }
  std::unique_ptr<DeviceModel> load(const std::filesystem::path& model, const std::vector<std::filesystem::path>& adapters) override {
    return std::make_unique<OnDeviceModel<Transformer<X>>>(ctx_, model, adapters, bf16_base_);
  }
  std::unique_ptr<DeviceTraining> train(const Recipe& recipe) override { return std::make_unique<OnDeviceTraining<Transformer<X>>>(ctx_, recipe, bf16_base_); }

 private:
  Context ctx_;
  bool bf16_base_;
};

}  // namespace deltatune::cli
