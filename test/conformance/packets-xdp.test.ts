import { missingPrivilege, vectorTests } from './vector-tests.ts'

vectorTests('xdp', missingPrivilege())
