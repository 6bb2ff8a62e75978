// device.hpp for a tensor type: what cpu.cpp and cuda.cu compile, each for its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/peft_format.hpp"
#include "deltatune/attach/selection_format.hpp"
#include "deltatune/io/hf_export.hpp"
#include "device.hpp"
#include "model_io.hpp"

namespace deltatune::cli {

template <class X>
class OnDeviceModel : public DeviceModel {
 public:
  OnDeviceModel(context_of<X>& ctx, const std::filesystem::path& model, const std::filesystem::path& adapter)
      : ctx_(ctx), loaded_(load_model<X>(ctx, model, adapter)), saved_(ctx), scratch_(ctx), device_batch_(ctx) {}

  const BertConfig& config() const override { return loaded_.model.config(); }
  Index classes() const override { return loaded_.model.classes(); }
  const std::vector<std::string>& labels() const override { return loaded_.labels; }

  std::vector<float> logits(const PackedBatch& batch) override {
    device_batch_.upload(batch, false);
    const WorkspaceScope<B> all(saved_);
    Pass<X> pass{ctx_, saved_, scratch_};
    const View<float> logits = pass.keep(batch.count(), classes());
    loaded_.model.forward(pass, device_batch_, logits, activations_);
    return download_floats<X>(ctx_, logits);
  }

  void select(const Selection& selection) override { apply(loaded_.model, selection); }

  void forward(const PackedBatch& batch, bool gradients, SafeTensorsWriter& writer) override {
    device_batch_.upload(batch, loaded_.model.embeddings_train());
    const WorkspaceScope<B> all(saved_);
    if (loaded_.model.has_classifier()) {
      run_classifier(batch, gradients, writer);
    } else {
      run_encoder(batch, writer);
    }
  }

 private:
  using B = backend_of<X>;

  void run_encoder(const PackedBatch& batch, SafeTensorsWriter& writer) {
    Pass<X> pass{ctx_, saved_, scratch_};
    const Index width = config().width;
    const View<float> h = pass.keep(batch.rows(), width);
    loaded_.model.encode(pass, device_batch_, h, activations_);
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

  void run_classifier(const PackedBatch& batch, bool gradients, SafeTensorsWriter& writer) {
    Bert<X>& model = loaded_.model;
    Pass<X> pass{ctx_, saved_, scratch_, gradients ? Mode::differentiate : Mode::evaluate};
    const View<float> logits = pass.keep(batch.count(), classes());
    const View<float> dlogits = pass.keep(batch.count(), classes());
    const View<float> loss = pass.keep(1, 1);
    model.forward(pass, device_batch_, logits, activations_);
    writer.add_copy("logits", {batch.count(), classes()}, download_floats<X>(ctx_, logits));
    if (batch.labels.empty() && batch.targets.empty()) return;
    B::fill(ctx_, loss, 0.0F);
    classification_loss<X>(pass, device_batch_, logits, {.total_weight = label_weight(batch, {})}, dlogits, loss);
    writer.add_copy("loss", {1}, download_floats<X>(ctx_, loss));
    if (!gradients) return;
    allocate_gradients(model, ctx_);
    model.backward(pass, device_batch_, activations_, dlogits);
    model.visit([&](Parameter<X>& parameter) {
      if (parameter.trains())
        writer.add_copy("grad." + name_in_file(parameter.path()), parameter.file_shape(), download_in_file_order(ctx_, parameter, parameter.gradient()));
    });
  }

  // The name of a trainable parameter in the adapter's file, else in the model's.
  std::string name_in_file(const std::string& path) const {
    if (loaded_.adapter) return loaded_.adapter->keys.at(path);
    const auto& names = loaded_.model.load_report().names;
    const auto name = names.find(path);
    return name == names.end() ? path : name->second;
  }

  context_of<X>& ctx_;
  LoadedModel<X> loaded_;
  Workspace<B> saved_, scratch_;
  DeviceBatch<X> device_batch_;
  typename Bert<X>::Activations activations_;
};

template <class X>
class OnDeviceTraining : public DeviceTraining {
 public:
  OnDeviceTraining(context_of<X>& ctx, const Recipe& recipe)
      : ctx_(ctx),
        recipe_(recipe),
        model_(Bert<X>::load(ctx, recipe.model, Head::classifier(static_cast<Index>(recipe.labels.size())), recipe.trainer.seed)),
        attachment_(attached()),
        trainer_(ctx, model_, recipe.trainer) {}

  const LoadReport& load_report() const override { return model_.load_report(); }
  Progress resume(const std::filesystem::path& folder, const nlohmann::json& settings) override { return load_checkpoint(folder, trainer_, settings); }
  void save_checkpoint(const std::filesystem::path& folder, const Progress& progress, const nlohmann::json& settings) override {
    deltatune::save_checkpoint(folder, trainer_, progress, settings);
  }
  Progress fit(const Dataset& training, const Dataset* evaluation, const FitConfig& config, const Progress& progress, const FitCallbacks& callbacks) override {
    return deltatune::fit(trainer_, training, evaluation, config, progress, callbacks);
  }

  void save() override {
    if (recipe_.saves_model) {
      save_hf_checkpoint(ctx_, recipe_.out, model_, recipe_.model, recipe_.labels);
    } else if (attachment_) {
      save_peft<X>(ctx_, recipe_.out, model_, std::get<LoraPlan>(recipe_.method), *attachment_, recipe_.model.string());
    } else {
      save_selection(ctx_, recipe_.out, model_, std::get<Selection>(recipe_.method), recipe_.model.string());
    }
  }

  std::map<std::string, PartSize> parts() override {
    std::map<std::string, PartSize> parts;
    model_.visit([&](const Parameter<X>& parameter) {
      PartSize& part = parts[part_of(parameter)];
      part.all += parameter.size();
      part.trained += parameter.trainable_count();
    });
    return parts;
  }
  MemoryReport memory() override { return trainer_.memory(); }

 private:
  std::optional<Attachment<X, Lora<X>>> attached() {
    if (const LoraPlan* const plan = std::get_if<LoraPlan>(&recipe_.method)) return attach(ctx_, model_, *plan, recipe_.trainer.seed);
    apply(model_, std::get<Selection>(recipe_.method));
    return std::nullopt;
  }

  // In a reader's words.
  static std::string part_of(const Parameter<X>& parameter) {
    const std::string& path = parameter.path();
    if (parameter.role() == Role::delta) return "deltas";
    for (const char* part : {"embeddings", "pooler", "classifier"})
      if (path.starts_with(part) || path.starts_with(std::string("bert.") + part)) return part;
    return "encoder";
  }

  context_of<X>& ctx_;
  const Recipe recipe_;
  Bert<X> model_;
  std::optional<Attachment<X, Lora<X>>> attachment_;
  Trainer<Bert<X>> trainer_;
};

template <class X>
class OnDevice : public Device {
 public:
  template <class... Arguments>
  explicit OnDevice(Arguments&&... arguments) : ctx_(std::forward<Arguments>(arguments)...) {}

  int threads() const override {
    if constexpr (requires { ctx_.threads(); }) return ctx_.threads();
    return 0;
  }
  std::unique_ptr<DeviceModel> load(const std::filesystem::path& model, const std::filesystem::path& adapter) override {
    return std::make_unique<OnDeviceModel<X>>(ctx_, model, adapter);
  }
  std::unique_ptr<DeviceTraining> train(const Recipe& recipe) override { return std::make_unique<OnDeviceTraining<X>>(ctx_, recipe); }

 private:
  context_of<X> ctx_;
};

}  // namespace deltatune::cli
