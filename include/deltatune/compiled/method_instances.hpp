// What is instantiated of each method for tensors X, as macros: deltatune::compiled has it for float on the default CPU backend (instances.hpp and
// adapter_instances.hpp); a program with models of another kind can compile theirs once in the same way.
#pragma once

// A method on Transformer<X>. EXTERN: `extern`, or nothing in the one file that instantiates.
#define DELTATUNE_METHOD_INSTANCES(EXTERN, X, Plan)                                                                                 \
  EXTERN template Attached<X, Plan> attach_beside(context_of<X>&, Transformer<X>&, const Plan&, std::uint64_t, const std::string&); \
  EXTERN template Attached<X, Plan> attach(context_of<X>&, Transformer<X>&, const Plan&, std::uint64_t, const std::string&);        \
  EXTERN template void save_adapter(context_of<X>&, const std::filesystem::path&, Transformer<X>&, const Plan&, Attachment<X>&, const std::string&);

// The methods of deltatune.hpp.
#define DELTATUNE_CORE_METHOD_INSTANCES(EXTERN, X) \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, LoraPlan)  \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, SelectionPlan)

// Those that adapters.hpp adds, and its readers.
#define DELTATUNE_ADAPTER_INSTANCES(EXTERN, X)                                                                                \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, AdaLoraPlan)                                                                          \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, AdapterHubLoraPlan)                                                                   \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, BottleneckPlan)                                                                       \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, DiffPruningPlan)                                                                      \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, Ia3Plan)                                                                              \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, MissPlan)                                                                             \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, NormTuningPlan)                                                                       \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, PTuningPlan)                                                                          \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, PrefixPlan)                                                                           \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, PromptPlan)                                                                           \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, UnionPlan)                                                                            \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, VeraPlan)                                                                             \
  DELTATUNE_METHOD_INSTANCES(EXTERN, X, AnyPlan)                                                                              \
  EXTERN template Adapter<X> load_adapter(context_of<X>&, Transformer<X>&, const std::filesystem::path&, const std::string&); \
  EXTERN template Adapter<X> load_adapter_beside(context_of<X>&, Transformer<X>&, const std::filesystem::path&, const std::string&);
