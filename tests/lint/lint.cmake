# Rules of the house as ctest tests (label lint): each checks the tree, and has a self-test that shows it can fail.
set(PGSLUICE_PYTHON /usr/bin/python3)  # the distribution's: it has the packages that scripts/install-deps brought
foreach(rule floors style scripts effects documents)
  set(script ${CMAKE_CURRENT_LIST_DIR}/${rule}.py)
  add_test(NAME lint_${rule} COMMAND ${PGSLUICE_PYTHON} ${script} ${CMAKE_SOURCE_DIR})
  add_test(NAME lint_${rule}_self_test COMMAND ${PGSLUICE_PYTHON} ${script} --self-test)
  set_tests_properties(lint_${rule} lint_${rule}_self_test PROPERTIES LABELS lint TIMEOUT 60)
endforeach()

# The page that tells of the seeded bugs has what the list has.
add_test(NAME lint_seeded_bugs COMMAND ${PGSLUICE_PYTHON} ${CMAKE_SOURCE_DIR}/tests/seeded/run --check-docs)
set_tests_properties(lint_seeded_bugs PROPERTIES LABELS lint TIMEOUT 60)

if(TARGET pgsluice)
  add_test(NAME lint_install COMMAND ${CMAKE_COMMAND} -DBUILD=${CMAKE_BINARY_DIR} -DSOURCE=${CMAKE_SOURCE_DIR}
                                     -P ${CMAKE_CURRENT_LIST_DIR}/install.cmake)
  set_tests_properties(lint_install PROPERTIES LABELS lint TIMEOUT 60)
endif()
