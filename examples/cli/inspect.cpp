// deltatune inspect: what is in a model's folder, where a delta may go, what an adapter changes.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "commands.hpp"
#include "cpu_model.hpp"
#include "report.hpp"

namespace deltatune::cli {

namespace {

using Model = Transformer<X>;

using Json = nlohmann::ordered_json;

struct InspectOptions {
  std::string model;
  std::vector<std::filesystem::path> adapters;
  bool tensors = false, json = false;
};

const char* name_of(Role role) {
  switch (role) {
    case Role::weight:
      return "weight";
    case Role::bias:
      return "bias";
    case Role::norm_scale:
      return "norm scale";
    case Role::norm_shift:
      return "norm shift";
    case Role::embedding:
      return "embedding";
    case Role::delta:
      return "delta";
  }
  return "";
}

// Under a header of two columns, one row a member.
std::string listing(std::vector<std::string> header, const Json& object) {
  TextTable table(std::move(header), 2);
  for (const auto& [key, value] : object.items()) table.add({key, value.is_string() ? value.get<std::string>() : value.dump()});
  return table.text();
}

Json model_summary(LoadedModel<Model>& loaded) {
  Model& model = *loaded.model;
  const ModelInfo info = info_of(model, loaded.labels);
  const Architecture& architecture = info.family.architecture;
  const std::string head = model.has_classifier() ? " with a classifier" : model.is_language_model() ? ", language model" : " encoder, no classifier";
  Json summary{{"architecture", architecture.title + head},
               {"parameters", base_parameter_count(model)},
               {"layers", architecture.encoder_layers() + info.layers},
               {"width", info.hidden_size},
               {"heads", info.heads},
               {"feed_forward_width", info.intermediate_size},
               {"vocabulary", info.vocab_size},
               {"positions", architecture.limits_positions() ? Json(info.max_position_embeddings) : Json(nullptr)},
               {"token_types", info.type_vocab_size}};
  if (architecture.encoder) {  // heads and feed_forward_width are the decoder's
    const LayerSpec& layer = architecture.encoder->stack.layers.front();
    summary.update({{"encoder_layers", architecture.encoder_layers()},
                    {"decoder_layers", info.layers},
                    {"encoder_heads", layer.attention.heads},
                    {"encoder_feed_forward_width", layer.feed_forward.intermediate_size}});
  }
  if (model.has_classifier()) summary["labels"] = loaded.labels;
  if (!model.load_report().left_out.empty()) summary["tensors_not_used"] = model.load_report().left_out;
  return summary;
}

Json adapter_summary(LoadedModel<Model>& loaded, Adapter<X>& adapter) {
  Json summary{{"method", method_of(adapter.plan)}};
  if (const LoraPlan* const plan = std::get_if<LoraPlan>(&adapter.plan)) {
    summary["rank"] = plan->lora.rank;
    summary["alpha"] = plan->lora.alpha;
    summary["dropout"] = plan->lora.dropout;
    summary["rank_stabilized"] = plan->lora.rank_stabilized;
  }
  summary["sites"] = adapter.attachment.paths().size();
  if (!adapter.ignored.empty()) summary["tensors_not_used"] = adapter.ignored;
  const Index trained = trainable_count(*loaded.model), all = parameter_count(*loaded.model);
  summary["trainable_parameters"] = trained;
  summary["total_parameters"] = all;
  summary["trainable_percent"] = std::round(1e4 * static_cast<double>(trained) / static_cast<double>(all)) / 100.0;
  return summary;
}

// Places for deltas, seam by seam, with the methods that sit there.
Json sites(LoadedModel<Model>& loaded) {
  Json list = Json::array();
  const auto add = [&](const std::string& path, const Shape& shape, const char* seam) {
    Json entry{{"path", path}, {"shape", shape}, {"seam", seam}};
    for (const auto& adapter : loaded.adapters) {
      const std::vector<std::string>& paths = adapter.attachment.paths();
      if (std::find(paths.begin(), paths.end(), path) == paths.end()) continue;
      entry["method"] = method_of(adapter.plan);
      if (const LoraPlan* const plan = std::get_if<LoraPlan>(&adapter.plan); plan != nullptr && std::string_view(seam) == "weight") {
        const LoraConfig lora = plan->at(path, "adapter");
        entry["rank"] = lora.rank;
        entry["alpha"] = lora.alpha;
      }
    }
    list.push_back(std::move(entry));
  };
  Model& model = *loaded.model;
  model.visit_sites([&](LinearSite<X>& site) { add(site.path, site.weight.shape(), "weight"); });
  model.visit_lookups([&](LookupSite<X>& site) { add(site.path, site.table.shape(), "weight of a table"); });
  model.visit_sublayers([&](SublayerSite<X>& site) { add(site.path, {site.width}, "sublayer"); });
  model.visit_attentions([&](KvSite<X>& site) { add(site.path, {site.width}, "kv"); });
  add(model.input().path, {model.input().width}, "input");
  return list;
}

// Everything in memory, with the name and the type it has in its file.
Json tensors(LoadedModel<Model>& loaded, const InspectOptions& options) {
  const HfCheckpoint checkpoint = HfCheckpoint::open(options.model);
  const auto& names = loaded.model->load_report().names;
  // Types of the tensors in PEFT's and our own files.
  std::map<std::string, std::string> types;
  for (const std::filesystem::path& folder : adapter_folders(options.adapters)) {
    const std::filesystem::path file = folder / "adapter_model.safetensors";
    if (!std::filesystem::exists(file)) continue;
    const SafeTensors held = SafeTensors::open(file);
    for (const auto& [name, tensor] : held.tensors()) types[name] = to_string(tensor.dtype);
  }
  Json list = Json::array();
  loaded.model->visit([&](const Parameter<X>& parameter) {
    if (parameter.derived() && parameter.role() == Role::delta) return;
    std::string name = parameter.path(), dtype = "not in a file";
    if (const auto found = names.find(parameter.path()); found != names.end()) {
      name = found->second;
      dtype = to_string(checkpoint.tensors().at(name).dtype);
    }
    for (const auto& adapter : loaded.adapters)
      if (const auto key = adapter.keys.find(parameter.path()); key != adapter.keys.end()) {
        name = key->second;
        dtype = types.contains(name) ? types.at(name) : "in the adapter";
      }
    list.push_back(
        {{"name", name}, {"shape", parameter.file_shape()}, {"dtype", dtype}, {"role", name_of(parameter.role())}, {"trainable", parameter.trains()}});
  });
  return list;
}

std::string site_table(const Json& list) {
  TextTable table({"place for a delta", "seam", "shape", "method"}, 2);
  for (const Json& site : list) {
    std::string method = site.contains("method") ? site["method"].get<std::string>() : "";
    if (site.contains("rank")) method += ", rank " + site["rank"].dump() + ", alpha " + formatted("%g", site["alpha"].get<double>());
    table.add({site["path"], site["seam"], to_string(site["shape"].get<Shape>()), method});
  }
  return table.text();
}

std::string tensor_table(const Json& list) {
  TextTable table({"tensor", "role", "trained", "type in file", "shape"}, 4);
  for (const Json& tensor : list)
    table.add({tensor["name"], tensor["role"], tensor["trainable"].get<bool>() ? "yes" : "", tensor["dtype"], to_string(tensor["shape"].get<Shape>())});
  return table.text();
}

void inspect(const InspectOptions& options) {
  Context ctx;
  LoadedModel<Model> loaded = load_model<Model>(ctx, options.model, options.adapters);
  Json all{{"model", model_summary(loaded)}};
  Json shown = all["model"];
  if (shown["positions"].is_null()) shown["positions"] = "no limit (relative distances)";
  std::cout << listing({"model", options.model}, shown);
  for (std::size_t i = 0; i < loaded.adapters.size(); ++i) {
    const Json summary = adapter_summary(loaded, loaded.adapters[i]);
    if (i == 0) all["adapter"] = summary;
    all["adapters"].push_back(summary);
    std::cout << "\n" << listing({"adapter", i < options.adapters.size() ? options.adapters[i].string() : loaded.adapters[i].attachment.name()}, summary);
  }
  all["sites"] = sites(loaded);
  std::cout << "\n" << site_table(all["sites"]);
  if (options.tensors) {
    all["tensors"] = tensors(loaded, options);
    std::cout << "\n" << tensor_table(all["tensors"]);
  }
  if (options.json) std::cout << all.dump() << "\n";
}

}  // namespace

void add_inspect(CLI::App& app) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* const command = app.add_subcommand("inspect", "What a model and an adapter are: sizes, places that deltas can go to, tensors");
  command->add_option("--model", options->model, "Hugging Face folder of the model")->required()->type_name("DIR");
  command->add_option("--adapter", options->adapters, "Folder of an adapter for it; several times for several")->type_name("DIR");
  command->add_flag("--tensors", options->tensors, "List all tensors: name in the file, role, whether the adapter trains it, type, shape");
  command->add_flag("--json", options->json, "Print all of it once more as one JSON object, on the last line; positions: null where they have no limit");
  command->footer("Example:\n  deltatune inspect --model minilm --adapter runs/tweets --tensors");
  command->callback([options] { inspect(*options); });
}

}  // namespace deltatune::cli
