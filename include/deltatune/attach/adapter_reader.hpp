// The strict reader of adapter files, which all formats share: every parameter of the deltas takes a tensor, and every tensor is taken, left out for a
// reason, or an error. A format says under which names a parameter may stand (peft_format.hpp, adapterhub_format.hpp, opendelta_format.hpp).
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "deltatune/attach/any_plan.hpp"
#include "deltatune/attach/attachment.hpp"
#include "deltatune/core/config.hpp"
#include "deltatune/io/parameter_io.hpp"
#include "deltatune/io/tensor_file.hpp"

namespace deltatune {

// A method in a model, with the names its tensors have (or will have) in its file.
template <class X, class Plan = AnyPlan>
struct Adapter {
  Plan plan;
  Attachment<X> attachment;
  std::map<std::string, std::string> keys = {};                  // path of a parameter that is saved -> its name in the file
  std::vector<std::string> ignored = {};                         // tensors of the file that the library writes and does not read
  std::map<std::string, std::vector<std::string>> columns = {};  // in place of keys: names of several tensors that lie side by side in one parameter
  std::vector<std::string> notes = {};  // what a user should know: settings and tensors that have no effect, values that replace the model's
};

// The same with its plan in another form.
template <class X, class Plan, class Other>
Adapter<X, Other> with_plan(Adapter<X, Plan> adapter, Other plan) {
  return {std::move(plan),         std::move(adapter.attachment), std::move(adapter.keys), std::move(adapter.ignored), std::move(adapter.columns),
          std::move(adapter.notes)};
}

namespace detail {

// "a, b, c and 4 more"
DELTATUNE_FUNCTION std::string shortened_list(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 3;
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kShown; ++i) text += (i == 0 ? "" : ", ") + names[i];
  return names.size() > kShown ? text + " and " + std::to_string(names.size() - kShown) + " more" : text;
}
inline void note_unread(const std::string& file, const std::vector<std::string>& fields, std::vector<std::string>& notes_io) {
  if (!fields.empty()) notes_io.push_back(file + ": not known here and without effect: " + shortened_list(fields));
}

// Whether a tensor holds the numbers that a parameter has already.
template <class X>
bool holds_values_of(context_of<X>& ctx, const TensorInfo& tensor, const Parameter<X>& parameter) {
  std::vector<float> values(static_cast<std::size_t>(parameter.size()));
  read_floats(tensor, std::span<float>(values));
  return values == download_in_file_order<X>(ctx, parameter, parameter.value());
}

// The tensors of a file by the names that this library asks for, without what was read.
struct FileEntry {
  std::string key;  // in the file
  const TensorInfo* tensor;
};
using FileEntries = std::map<std::string, FileEntry>;

// Nothing in the model changes before finish(), when all is known to fit.
template <class X, class Plan>
class AdapterReader {
 public:
  AdapterReader(context_of<X>& ctx, std::string in_file, FileEntries entries, Adapter<X, Plan>& adapter)
      : ctx_(ctx), in_file_(std::move(in_file)), entries_(std::move(entries)), adapter_(adapter) {}

  // What nobody has taken or left out yet.
  const FileEntries& rest() const { return entries_; }

  // A parameter takes the first of its names that is there; returns whether there is one. Throws Error for one of another shape.
  bool take(Parameter<X>& parameter, const std::vector<std::string>& names) {
    for (const std::string& name : names) {
      if (const auto entry = entries_.find(name); entry != entries_.end()) {
        check_fits(*entry->second.tensor, parameter);
        if (parameter.role() != Role::delta) bring(*entry->second.tensor, parameter, true);
        read(entry, parameter);
        return true;
      }
      const auto indices = entries_.find(name + ".indices"), values = entries_.find(name + ".values");
      if (!parameter.sparse_in_file() || indices == entries_.end() || values == entries_.end()) continue;
      reads_.emplace_back(
          [&ctx = ctx_, &parameter, of = indices->second.tensor, what = values->second.tensor] { read_sparse_parameter(ctx, *of, *what, parameter); });
      adapter_.keys[parameter.path()] = name;
      entries_.erase(indices);
      entries_.erase(values);
      return true;
    }
    return false;
  }
  // The same; throws Error where none is there. key: the name that such a file has for it; remedy: what to do then.
  void require(Parameter<X>& parameter, const std::vector<std::string>& names, const std::string& key, const std::string& remedy = "is the file complete?") {
    if (!take(parameter, names)) throw Error(in_file_, "has no tensor for " + parameter.path(), {.expected = key, .remedy = remedy});
  }
  // A weight of the model that the configuration does not speak of: taken where it says something new, else left out. expected: no note tells so.
  void take_unasked(Parameter<X>& parameter, const std::string& name, bool expected) {
    const auto entry = entries_.find(name);
    check_fits(*entry->second.tensor, parameter);
    if (!bring(*entry->second.tensor, parameter, expected)) return leave_out(name);
    reads_.emplace_back([&ctx = ctx_, &parameter, tensor = entry->second.tensor] { read_parameter(ctx, *tensor, parameter); });
    entries_.erase(entry);
  }
  // Several tensors that lie side by side in a parameter, of which read() makes its values.
  void take_columns(Parameter<X>& parameter, const std::vector<std::string>& names, std::function<void()> read) {
    for (const std::string& name : names) {
      adapter_.columns[parameter.path()].push_back(entries_.at(name).key);
      entries_.erase(name);
    }
    reads_.push_back(std::move(read));
  }
  void leave_out(const std::string& name) {
    adapter_.ignored.push_back(entries_.at(name).key);
    entries_.erase(name);
  }

  // check(name, entry) throws Error for what may not be in such a file; the rest is left out, and the model gets its values.
  template <class Check>
  void finish(const Check& check) {
    for (const auto& [name, entry] : entries_) check(name, entry);
    for (const auto& [name, entry] : entries_) adapter_.ignored.push_back(entry.key);
    for (const auto& read : reads_) read();
    for (Parameter<X>* const parameter : brought_) parameter->set_brought_by(adapter_.attachment.name());
    if (!unexpected_.empty()) adapter_.notes.push_back(in_file_ + ": replaces weights of the model: " + shortened_list(unexpected_));
    if (!twice_.empty()) adapter_.notes.push_back(in_file_ + ": replaces what another adapter brought, with other values: " + shortened_list(twice_));
  }

 private:
  void read(FileEntries::iterator entry, Parameter<X>& parameter) {
    reads_.emplace_back([&ctx = ctx_, &parameter, tensor = entry->second.tensor] { read_parameter(ctx, *tensor, parameter); });
    adapter_.keys[parameter.path()] = entry->second.key;
    entries_.erase(entry);
  }
  // Whether a tensor for a weight of the model, which fits, changes anything or is expected.
  bool bring(const TensorInfo& tensor, Parameter<X>& parameter, bool expected) {
    const bool changes = !holds_values_of(ctx_, tensor, parameter);
    if (!changes && !expected) return false;
    if (changes && !parameter.brought_by().empty() && parameter.brought_by() != adapter_.attachment.name()) twice_.push_back(parameter.path());
    if (changes && !expected) unexpected_.push_back(parameter.path());
    brought_.push_back(&parameter);
    return true;
  }

  context_of<X>& ctx_;
  std::string in_file_;
  FileEntries entries_;
  Adapter<X, Plan>& adapter_;
  std::vector<std::function<void()>> reads_;
  std::vector<Parameter<X>*> brought_;
  std::vector<std::string> unexpected_, twice_;
};

}  // namespace detail

}  // namespace deltatune
