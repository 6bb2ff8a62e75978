// Adapter folders of OpenDelta, read: config.json with delta_type, and pytorch_model.bin with what trained, under the names of its modules.
//
//   adapter      <module>.adapter.modulelist.{down_proj,up_proj}.{weight,bias}           as AdapterHub's Houlsby
//   compacter    <module>.compactor.{down_sampler,up_sampler}.{W_left,W_right,phm_rule,b} as AdapterHub's Compacter with rules of its own
//   lora         <module>.lora.{lora_A,lora_B}
//   bitfit       the biases themselves
//   prefix       <attention>.prefix.{past_key,past_value}; <first attention>.reparams.{wte,control_trans.0,control_trans.2}
//   soft_prompt  soft_prompt_layer.soft_embeds
//
// What is read can be saved in PEFT's or AdapterHub's format. Adapters behind a dense layer come before its dropout in OpenDelta, and after
// it here: a difference in training alone.
#pragma once

#include <algorithm>
#include <filesystem>
#include <functional>
#include <initializer_list>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "deltatune/attach/adapterhub_format.hpp"
#include "deltatune/attach/peft_format.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/json_config.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

namespace detail {

inline bool is_opendelta_folder(const std::filesystem::path& folder) {
  return std::filesystem::exists(folder / "config.json") && JsonConfig::open(folder / "config.json").has("delta_type");
}

// By names without the model's prefix.
using OpenDeltaTensors = FileEntries;

// Where a bottleneck stands.
struct OpenDeltaPlace {
  Index layer;  // counted over both stacks
  Sublayer sublayer;
  bool behind_sum;  // and its norm

  // Behind the output projection of a sublayer, or behind a module that holds it: then behind the residual sum where that module holds the norm, too.
  DELTATUNE_FUNCTION static std::optional<OpenDeltaPlace> of(const std::string& module, const Architecture& architecture) {
    const std::optional<LayerPlace> place = architecture.place_of(module + ".");
    if (!place) return std::nullopt;
    const StackNames& names = place->stack->names;
    const auto holds = [&](const std::string& path) { return !path.empty() && (path + ".").starts_with(place->module); };
    const bool has_branch_norm = place->stack->place == NormPlace::around || place->stack->place == NormPlace::after_branch;
    const auto behind = [&](Sublayer kind, const std::string& norm) -> std::optional<OpenDeltaPlace> {
      if (has_branch_norm && !holds(norm)) return std::nullopt;
      return OpenDeltaPlace{place->layer, kind, holds(norm)};
    };
    if (holds(names.feed_forward.down)) return behind(Sublayer::feed_forward, names.feed_forward.norm);
    if (holds(names.cross.output)) return behind(Sublayer::cross_attention, names.cross.norm);
    if (holds(names.attention.output)) return behind(Sublayer::attention, names.attention.norm);
    return std::nullopt;
  }
};

// The modules that have a tensor with this end.
DELTATUNE_FUNCTION std::vector<std::string> modules_with(const OpenDeltaTensors& tensors, std::string_view end) {
  std::vector<std::string> modules;
  for (const auto& [name, entry] : tensors)
    if (name.ends_with(end)) modules.push_back(name.substr(0, name.size() - end.size()));
  return modules;
}

// Bottlenecks behind `modules`, all of one size: those after each kind of sublayer, in its layers.
DELTATUNE_FUNCTION UnionPlan opendelta_bottlenecks(const std::vector<std::string>& modules, const Architecture& architecture, Index bottleneck,
                                                   BottleneckConfig config, const std::string& where) {
  std::map<Sublayer, std::vector<Index>> present;
  std::optional<bool> behind_sum;
  for (const std::string& module : modules) {
    const auto place = OpenDeltaPlace::of(module, architecture);
    if (!place || (behind_sum && *behind_sum != place->behind_sum))
      throw Error(where + ": modified_modules", "an adapter at " + module + " is not supported" + (place ? " together with those behind other modules" : ""),
                  {.expected = "the output projections of attention and feed-forward part, in all of them before the residual sum or behind it and its norm"});
    behind_sum = place->behind_sum;
    present[place->sublayer].push_back(place->layer);
  }
  if (behind_sum.value_or(false)) {
    config.original_ln_before = true;
    config.original_ln_after = false;
    config.residual = BottleneckConfig::Residual::after_ln;
  }
  UnionPlan plan;
  const Index width = architecture.hidden_size;
  for (const auto& of_kind : present) {
    const Sublayer kind = of_kind.first;
    const std::vector<Index>& in_layers = of_kind.second;
    // Half a column more than the size, unless it divides the width: floor() of the quotient is the size either way.
    const double size = static_cast<double>(bottleneck) + (width % bottleneck == 0 ? 0.0 : 0.5);
    BottleneckPlan method;
    method.adapter = config;
    method.reduction.factor = static_cast<double>(width) / size;
    method.after_feed_forward = false;
    const Index first = kind == Sublayer::cross_attention ? architecture.encoder_layers() : 0, count = architecture.encoder_layers() + architecture.layers();
    const auto same_layers = [&](const UnionMember& member) {
      for (Index l = first; l < count; ++l)
        if (holds(in_layers, l) == holds(std::get<BottleneckPlan>(member).leave_out, l)) return false;
      return true;
    };
    auto member = std::find_if(plan.members.begin(), plan.members.end(), same_layers);
    if (member == plan.members.end()) {
      for (Index l = 0; l < count; ++l)
        if (!holds(in_layers, l)) method.leave_out.push_back(l);
      member = plan.members.insert(member, std::move(method));
    }
    std::get<BottleneckPlan>(*member).*BottleneckPlan::after(kind) = true;
  }
  return plan;
}

// A shape's extent, in a file that holds what it should.
DELTATUNE_FUNCTION Index extent(const OpenDeltaTensors& tensors, const std::string& name, std::size_t axis, const std::string& where) {
  const auto entry = tensors.find(name);
  if (entry == tensors.end() || entry->second.tensor->shape.size() <= axis) throw Error(where, "has no tensor " + name, {.remedy = "is the file complete?"});
  return entry->second.tensor->shape[axis];
}

// What a folder holds, as a plan. prefix: of the model's paths.
DELTATUNE_FUNCTION AnyPlan read_opendelta_plan(const JsonConfig& json, const OpenDeltaTensors& tensors, const Architecture& architecture,
                                               const std::string& prefix, const std::string& in_file) {
  const std::string type = json.get<std::string>("delta_type");
  if (architecture.encoder && (type == "prefix" || type == "soft_prompt"))
    throw Error(json.name() + ": delta_type", "is not supported on " + architecture.title + ", an encoder-decoder", {.got = "\"" + type + "\""});
  const auto require = [&](std::vector<std::string> modules) {
    if (modules.empty()) throw Error(in_file, "holds no tensors of the delta_type \"" + type + "\"", {.remedy = "does it belong to this config.json?"});
    return modules;
  };
  const auto activation = [&](const std::string& fallback) {
    nlohmann::json with = json.raw();
    if (!json.has("non_linearity")) with["non_linearity"] = fallback;
    ops::Activation chosen{};
    read_activation(JsonConfig::parse(with.dump(), json.name()), false, chosen);
    return chosen;
  };
  if (type == "adapter") {
    const std::string down = ".adapter.modulelist.down_proj.weight";
    const std::vector<std::string> modules = require(modules_with(tensors, down));
    return opendelta_bottlenecks(modules, architecture, extent(tensors, modules[0] + down, 0, in_file), {.activation = activation("gelu_new")}, json.name());
  }
  if (type == "compacter") {
    for (const char* const key : {"shared_phm_rule", "shared_W_phm"})
      if (json.get_or<bool>(key, false)) throw Error(json.name() + ": " + key, "is not supported", {.expected = "false"});
    PhmConfig phm{.shared_rule = false};
    phm.dim = json.get_or<std::int64_t>("hypercomplex_division", 4);
    phm.rank = json.get_or<std::int64_t>("phm_rank", 1);
    phm.factorised_weight = json.get_or<bool>("factorized_phm", true);
    phm.factorised_rule = json.get_or<bool>("factorized_phm_rule", false);
    phm.learn_rule = json.get_or<bool>("learn_phm", true);
    phm.bias = json.get_or<bool>("use_bias_down_sampler", true);
    if (phm.bias != json.get_or<bool>("use_bias_up_sampler", true)) throw Error(json.name() + ": use_bias_up_sampler", "must equal use_bias_down_sampler");
    const std::vector<std::string> modules =
        require(modules_with(tensors, phm.factorised_weight ? ".compactor.down_sampler.W_right" : ".compactor.down_sampler.W"));
    const Index bottleneck = std::max<Index>(1, architecture.hidden_size / json.get_or<std::int64_t>("reduction_factor", 16));
    return opendelta_bottlenecks(modules, architecture, bottleneck, {.activation = activation("relu"), .phm = phm}, json.name());
  }
  if (type == "lora") {
    LoraPlan plan;
    std::vector<std::string> sites = require(modules_with(tensors, ".lora.lora_A"));
    plan.lora.rank = json.get_or<std::int64_t>("lora_r", extent(tensors, sites[0] + ".lora.lora_A", 0, in_file));
    plan.lora.alpha = json.get_or<double>("lora_alpha", 16);
    plan.lora.dropout = json.get_or<double>("lora_dropout", 0);
    for (std::string& site : sites) site = prefix + site;
    plan.targets = Targets::at(std::move(sites));
    return plan;
  }
  if (type == "bitfit") {
    std::vector<std::string> biases;
    for (const auto& [name, entry] : tensors) {
      if (name.ends_with(".bitfit.bias")) throw Error(in_file + ": " + entry.key, "is a bias of a layer that has none", {.expected = "biases of the model"});
      if (name.ends_with(".bias") && !architecture.is_head(name)) biases.push_back(prefix + name);
    }
    return SelectionPlan({"bitfit", require(std::move(biases))});
  }
  if (type == "prefix") {
    PrefixPlan plan;
    plan.prefix.shifts_positions = false;
    const std::vector<std::string> encoders = modules_with(tensors, ".reparams.wte.weight");
    const std::string first =
        encoders.empty() ? require(modules_with(tensors, ".prefix.past_key"))[0] + ".prefix.past_key" : encoders[0] + ".reparams.wte.weight";
    plan.prefix.rows = extent(tensors, first, 0, in_file);
    if (!encoders.empty()) {
      plan.prefix.embedding = extent(tensors, first, 1, in_file);
      plan.prefix.hidden = extent(tensors, encoders[0] + ".reparams.control_trans.0.weight", 0, in_file);
    }
    return plan;
  }
  if (type == "soft_prompt") {
    PromptPlan plan;
    plan.prompt.rows = extent(tensors, "soft_prompt_layer.soft_embeds", 0, in_file);
    return plan;
  }
  throw Error(json.name() + ": delta_type", "is not supported",
              {.expected = "adapter, compacter, lora, bitfit, prefix or soft_prompt", .got = "\"" + type + "\""});
}

// OpenDelta's name for a parameter of a delta.
DELTATUNE_FUNCTION std::string opendelta_name(const std::string& path, const Architecture& architecture, const OpenDeltaTensors& tensors) {
  const std::string name = architecture.without_prefix(path);
  const auto with = [](std::string text, std::string_view part, std::string_view other) {
    const std::size_t at = text.find(part);
    return at == std::string::npos ? text : text.replace(at, part.size(), other);
  };
  if (name == "prompt_embeddings") return "soft_prompt_layer.soft_embeds";
  if (name.starts_with("prompt_encoder.")) {
    const std::string inner = with(with(name, "prompt_encoder.embedding", "wte"), "prompt_encoder.transform", "control_trans");
    return modules_with(tensors, ".reparams.wte.weight").at(0) + ".reparams." + inner;
  }
  const std::size_t adapters = name.find(".adapters.");
  if (adapters == std::string::npos) return with(with(name, ".lora_A.weight", ".lora.lora_A"), ".lora_B.weight", ".lora.lora_B");
  // The module that has this adapter: one of several names of one place.
  const std::optional<LayerPlace> place = architecture.place_of(name);
  if (!place) return name;
  const StackNames& names = place->stack->names;
  const auto stands_at = [&](const SublayerNames& sublayer) { return !sublayer.adapters.empty() && place->module.starts_with(sublayer.adapters + "."); };
  const Sublayer sublayer = stands_at(names.attention) ? Sublayer::attention : stands_at(names.cross) ? Sublayer::cross_attention : Sublayer::feed_forward;
  for (const char* const kind : {".adapter.", ".compactor."})
    for (const auto& [other, entry] : tensors) {
      const std::size_t at = other.find(kind);
      if (at == std::string::npos) continue;
      const auto found = OpenDeltaPlace::of(other.substr(0, at), architecture);
      if (!found || found->layer != place->layer || found->sublayer != sublayer) continue;
      const std::string module = other.substr(0, at) + kind, rest = name.substr(adapters + std::string_view(".adapters.").size());
      if (kind[1] == 'a') return module + "modulelist." + with(with(rest, "adapter_down.0", "down_proj"), "adapter_up", "up_proj");
      return module + with(with(rest, "adapter_down.0", "down_sampler"), "adapter_up", "up_sampler");
    }
  return name;
}

// Keys and values of a prefix, a tensor each for each layer, into one parameter.
template <class Model, class Reader, class X>
void take_opendelta_prefix(context_of<X>& ctx, Model& model, const OpenDeltaTensors& tensors, Parameter<X>& rows, const std::string& in_file, Reader& reader) {
  const Index count = rows.shape().at(0), columns = rows.shape().at(1);
  std::vector<float> all(static_cast<std::size_t>(rows.size()));
  std::vector<std::string> names;
  Index column = 0;
  model.visit_attentions([&](KvSite<X>& site) {
    std::string layer = model.architecture().without_prefix(site.path);
    if (layer.ends_with(".self")) layer.resize(layer.size() - 5);
    for (const char* const part : {".prefix.past_key", ".prefix.past_value"}) {
      const std::string name = layer + part;
      const auto entry = tensors.find(name);
      if (entry == tensors.end()) throw Error(in_file, "has no tensor " + name, {.expected = "a prefix for each layer"});
      const TensorInfo& tensor = *entry->second.tensor;
      if (tensor.shape != Shape{count, site.width})
        throw Error(in_file + ": " + entry->second.key, "does not fit the model",
                    {.expected = "shape " + to_string(Shape{count, site.width}), .got = to_string(tensor.shape)});
      std::vector<float> values(static_cast<std::size_t>(element_count(tensor.shape)));
      read_floats(tensor, std::span<float>(values));
      for (Index p = 0; p < count; ++p) std::copy_n(values.begin() + p * site.width, site.width, all.begin() + p * columns + column);
      column += site.width;
      names.push_back(name);
    }
  });
  reader.take_columns(rows, names, [&ctx, &rows, all = std::move(all)] { upload_values(ctx, std::span<const float>(all), rows); });
}

}  // namespace detail

// Attaches what the folder holds beside what the model has; every tensor is used or the call throws. What trained goes on training.
template <class Model>
Adapter<typename Model::Tensor> load_opendelta(typename Model::Context& ctx, Model& model, const std::filesystem::path& folder,
                                               const std::string& name = "default") {
  using X = typename Model::Tensor;
  const JsonConfig json = JsonConfig::open(folder / "config.json");
  const std::string in_file = (folder / "pytorch_model.bin").string();
  const TensorFile file = TensorFile::open(in_file);
  detail::OpenDeltaTensors tensors;
  for (const auto& [key, tensor] : file.tensors()) tensors[model.architecture().without_prefix(key)] = {key, &tensor};
  AnyPlan plan = detail::read_opendelta_plan(json, tensors, model.architecture(), detail::base_prefix(model), in_file);
  base_of(plan).name = name;
  base_of(plan).modules_to_save.clear();
  const HeadSpec& head = model.architecture().head;
  if (model.has_classifier() && tensors.contains(head.classifier + ".weight")) base_of(plan).modules_to_save.push_back(head.output_module());
  Adapter<X> adapter{plan, attach_beside(ctx, model, plan, 0, json.name())};

  or_detach(adapter.attachment, [&] {
    detail::AdapterReader<X, AnyPlan> reader(ctx, in_file, tensors, adapter);
    adapter.attachment.visit([&](Parameter<X>& parameter) {
      if (parameter.derived()) return;
      const std::string tensor_name = detail::opendelta_name(parameter.path(), model.architecture(), tensors);
      if (parameter.path() == "prompt_embeddings" && !tensors.contains(tensor_name))
        return detail::take_opendelta_prefix(ctx, model, tensors, parameter, in_file, reader);
      reader.require(parameter, {tensor_name}, tensor_name);
    });
    model.visit([&](Parameter<X>& parameter) {
      const bool trains = std::visit([&](const auto& known) { return trains_beside(model, known, parameter, adapter.attachment.paths()); }, plan);
      if (parameter.role() == Role::delta || !parameter.updated() || !trains) return;
      reader.require(parameter, {model.architecture().without_prefix(parameter.path())}, parameter.path());
    });
    reader.finish([&](const std::string& unknown, const detail::FileEntry& entry) {
      if (!(model.architecture().is_head(unknown) || unknown.starts_with("lm_head.")) || model.has_classifier())
        throw Error(in_file + ": " + entry.key, "is not a tensor of this delta",
                    {.remedy = "where the whole model was saved, save again after freeze_module(set_state_dict=True)"});
    });
  });
  return adapter;
}

}  // namespace deltatune
