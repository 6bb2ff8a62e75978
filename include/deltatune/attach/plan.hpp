// A plan is one method with its settings for a whole model: which places get a delta, with what settings each, and what else trains beside them.
// Every method has a plan type; attach() is the same for all.
//
//   struct MyPlan : PlanBase {
//     ... settings ...
//     // Throws Error for settings that make no sense, and for targets that match nothing. `where` stands for the plan in errors.
//     template <class Model>
//     void place(typename Model::Context&, Model&, Attachment<typename Model::Tensor>&, std::uint64_t seed, const std::string& where) const;
//     template <class X> bool trains_too(const Parameter<X>&) const;  // optional: parameters of the model itself that train as well
//     static std::vector<std::pair<std::string, MyPlan>> methods();   // its names, each with what it starts from (attach/methods.hpp)
//     std::vector<Setting> settings();                                // each once: for files, for options of a program and their help
//     // For the formats, besides kPeftType and site_tensors(), all optional:
//     void validate(const std::string& where) const;                  // throws Error for settings that make no sense
//     static constexpr const char* kOwnType;                          // peft_type of what PEFT's format cannot express,
//     bool own() const;                                               // and whether this plan is such a one
//     template <class Json> void read_more(const Json&);              // what settings() leaves; before them
//     void write_more(nlohmann::json& config_io, const std::vector<std::string>& paths, Model&) const;  // and after them
//     void fit(const TensorFile&);                                    // takes over what only the file of tensors says
//     template <class X> bool in_file(const Parameter<X>&) const;     // which parameters of the deltas are saved; else those that aren't derived
//     template <class X> std::vector<std::string> file_names(const Parameter<X>&) const;  // their names there, the one to write first
//     FileTensors convert(Context&, Attachment<X>&, nlohmann::json& config_io) const;  // tensors written in another form (file_tensor.hpp)
//   };
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "deltatune/attach/attachment.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/core/error.hpp"
#include "deltatune/param/visit.hpp"

namespace deltatune {

enum class BiasTraining { none, all, targets };  // targets: those of the sites that have a delta

// PEFT's names of classifiers, all of which a file lists, whichever the model has.
inline const std::vector<std::string> kPeftOutputModules{"classifier", "score"};
// What trains beside deltas where nobody says otherwise: those, and the head of classifiers with a decoder, which PEFT leaves frozen unless it is named.
inline constexpr const char* kDecoderClassifier = "classification_head";
inline const std::vector<std::string> kOutputModules{"classifier", "score", kDecoderClassifier};

// What trains beside the deltas.
struct PlanBase {
  static constexpr const char* kGroup = "Methods on weights";  // of its kind, for a list of settings

  std::string name = "default";                               // of the attachment
  std::vector<std::string> modules_to_save = kOutputModules;  // trained as a whole; matched as ends of module paths
  BiasTraining bias = BiasTraining::none;
  bool ensure_weight_tying = false;      // where modules_to_save names the head of a language model that is tied to a table: both train as one
  std::vector<std::string> unread = {};  // fields of the file that it was read from which are set and mean nothing here

  // What place() draws its random numbers from; a plan that others are made of takes a key (attach/union_plan.hpp).
  static std::uint64_t stream_of(std::uint64_t seed) { return seed; }

  bool saves_tied_head() const { return ensure_weight_tying && saves("lm_head"); }
  // Whether a parameter or site belongs to a module of modules_to_save.
  DELTATUNE_FUNCTION bool saves(const std::string& path) const {
    for (std::size_t end = path.find('.');; end = path.find('.', end + 1)) {
      const std::string module = path.substr(0, end);
      if (std::any_of(modules_to_save.begin(), modules_to_save.end(), [&](const std::string& name_end) { return module.ends_with(name_end); })) return true;
      if (end == std::string::npos) return false;
    }
  }
};

// Whether a parameter of the model itself trains because of a plan whose deltas are at `paths`.
template <class Model, class Plan, class X>
bool trains_beside(Model& model, const Plan& plan, const Parameter<X>& parameter, const std::vector<std::string>& paths) {
  if (parameter.constant()) return false;
  if constexpr (requires { plan.trains_too(parameter); }) {
    if (plan.trains_too(parameter)) return true;
  }
  const std::string& path = parameter.path();
  if (plan.saves(path)) return true;
  if (plan.saves_tied_head() && &parameter == &model.word_table()) return true;
  if (parameter.role() != Role::bias && parameter.role() != Role::norm_shift) return false;
  if (plan.bias == BiasTraining::targets)
    return path.ends_with(".bias") && std::find(paths.begin(), paths.end(), path.substr(0, path.size() - 5)) != paths.end();
  return plan.bias == BiasTraining::all;
}

// Throws Error for a parameter whose values are not the model's own, so that a method cannot start from them. where: names the plan.
template <class X>
void check_own_values(const Parameter<X>& parameter, const std::string& where) {
  if (parameter.replaced()) throw Error(where + ": " + parameter.path(), "is computed by another delta already");
  if (parameter.backup().values)
    throw Error(where + ": " + parameter.path(), "has another delta merged into it", {.remedy = "detach or unmerge that one first"});
}

// Freezes all of the model's own parameters; those of deltas stay as they are.
template <class Model>
void freeze_base(Model& model) {
  using X = typename Model::Tensor;
  model.visit([](Parameter<X>& parameter) {
    if (parameter.role() == Role::delta) return;
    parameter.set_brought_by("");
    if (!parameter.derived()) parameter.set_mask(FreezeMask::frozen());
  });
}

namespace detail {

inline bool holds(const std::vector<Index>& layers, Index layer) { return std::find(layers.begin(), layers.end(), layer) != layers.end(); }

// Throws Error for a number that no layer has: of an encoder-decoder they are counted over both stacks, as AdapterHub does.
template <class Model>
void check_left_out(const Model& model, const std::vector<Index>& layers, const std::string& where) {
  const Index encoder = model.architecture().encoder_layers(), all = encoder + model.layers();
  const std::string counted = encoder == 0 ? "" : ", the encoder's " + std::to_string(encoder) + " first, then the decoder's " + std::to_string(model.layers());
  for (const Index layer : layers)
    if (layer < 0 || layer >= all)
      throw Error(where + ": leave_out", "the model has no such layer",
                  {.expected = "0 to " + std::to_string(all - 1) + counted, .got = std::to_string(layer)});
}

// A table trained as a whole parts from the head that is tied to it, and the head from the table, as PEFT trains a copy of the one that is named.
// Returns whether it did so.
template <class Model, class Plan>
bool part_saved_table(typename Model::Context& ctx, Model& model, const Plan& plan) {
  if constexpr (requires { model.tied_head(); }) {
    if (!model.tied() || plan.saves_tied_head() || !(plan.saves("lm_head.weight") || plan.saves(model.word_table().path()))) return false;
    model.untie(ctx);
    return true;
  }
  return false;
}

template <class Model, class Plan>
void check_modules_to_save(Model& model, const Plan& plan, const std::string& where) {
  using X = typename Model::Tensor;
  for (const std::string& module : plan.modules_to_save) {
    PlanBase alone;
    alone.modules_to_save = {module};
    const bool is_usual = std::find(kOutputModules.begin(), kOutputModules.end(), module) != kOutputModules.end();
    bool found = is_usual || (plan.saves_tied_head() && alone.saves("lm_head"));
    model.visit([&](Parameter<X>& parameter) { found = found || alone.saves(parameter.path()); });
    if (!found) throw Error(where + ": modules_to_save", "\"" + module + "\" matches nothing");
  }
}

}  // namespace detail

// A method in a model, with the plan it was attached by: save_adapter() needs nothing else.
template <class X, class Plan>
struct Attached : Attachment<X> {
  Attached(Attachment<X> attachment, Plan of) : Attachment<X>(std::move(attachment)), plan(std::move(of)) {}
  Plan plan;
};

// Attaches a method without freezing anything: what trained before goes on training.
// Throws Error when the plan does not fit the model, in which nothing of it is left then.
template <class Model, class Plan>
Attached<typename Model::Tensor, Plan> attach_beside(typename Model::Context& ctx, Model& model, const Plan& plan, std::uint64_t seed = 0,
                                                     const std::string& where = "plan") {
  using X = typename Model::Tensor;
  Attachment<X> attachment(plan.name);
  const bool parted = detail::part_saved_table(ctx, model, plan);
  try {
    detail::check_modules_to_save(model, plan, where);
    or_detach(attachment, [&] {
      plan.place(ctx, model, attachment, plan.stream_of(seed), where);
      if constexpr (requires { model.tie(ctx); }) {
        const std::vector<std::string>& paths = attachment.paths();
        if (std::any_of(paths.begin(), paths.end(), [&](const std::string& path) { return model.shares_table(path); }))
          attachment.set_shared_table([&model](auto& context) { model.untie(context); }, [&model](auto& context) { model.tie(context); });
      }
      attachment.set_arrange(ctx, [&model](typename Model::Context& context) { model.visit_linears([&](Linear<X>& layer) { layer.arrange(context); }); });
      model.visit([&](Parameter<X>& parameter) {
        if (parameter.role() != Role::delta && trains_beside(model, plan, parameter, attachment.paths())) attachment.train_beside(parameter);
      });
    });
  } catch (...) {
    if constexpr (requires { model.tie(ctx); }) {
      if (parted) model.tie(ctx);
    }
    throw;
  }
  return {std::move(attachment), plan};
}

// The same, with everything of the model itself frozen before.
template <class Model, class Plan>
Attached<typename Model::Tensor, Plan> attach(typename Model::Context& ctx, Model& model, const Plan& plan, std::uint64_t seed = 0,
                                              const std::string& where = "plan") {
  freeze_base(model);
  return attach_beside(ctx, model, plan, seed, where);
}

}  // namespace deltatune
